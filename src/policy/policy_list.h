// The policies of a study, from their names.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "policy/policy.h"

namespace cake {

// One policy of a study: what the configuration says of it, and the row that this makes.
struct ListedPolicy {
    PolicyConfig cells;
    Policy policy;      // its name is the one in the list
    std::string label;  // "cake-1024"; without a size where the policy keeps everything
};

// Every policy of `names` with every one of `cache_sizes`, in this order; one that keeps everything once. A name is a row
// of the table, and may have cells of its own behind it, as "cake:share=uniform:gamma=0"; other cells come from `base`. No
// names: base's; no sizes: base's, or the row's. Usage errors: as of make_policy, and a cell that there is not.
std::vector<ListedPolicy> list_policies(const PolicyConfig& base,
                                        std::span<const std::string> names,
                                        std::span<const int> cache_sizes, const ModelConfig& model);

// The policies of config.eval, the part of them that eval.part names. Usage errors: a part that is none, or empty.
std::vector<ListedPolicy> eval_policies(const RunConfig& config, const ModelConfig& model);

}  // namespace cake
