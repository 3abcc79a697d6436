// A communicator that says what it waits in.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/watchdog.h"

namespace cake {

// What `inner` is and does, and groups that are split off are watched as well. `ranks` of the world, in the order of
// `inner`. The watchdog outlives it.
std::unique_ptr<Communicator> make_watched_communicator(std::unique_ptr<Communicator> inner,
                                                        Watchdog& watchdog, std::vector<int> ranks);

// The ranks of the world in `group`, of which this is rank `mine`. Collective over it; no traffic of the group's.
std::vector<int> world_ranks(Communicator& group, int mine);

}  // namespace cake
