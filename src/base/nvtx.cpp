#include "base/nvtx.h"

#if CAKE_WITH_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace cake {

#if CAKE_WITH_NVTX
NvtxRange::NvtxRange(const char* name) { nvtxRangePushA(name); }
NvtxRange::~NvtxRange() { nvtxRangePop(); }
#else
NvtxRange::NvtxRange(const char*) {}
NvtxRange::~NvtxRange() {}
#endif

}  // namespace cake
