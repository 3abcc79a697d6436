#include "policy/policy.h"

#include <algorithm>

namespace cake {
namespace {

// The rows. A cell that a row does not name is Policy's default.
const std::vector<Policy>& table() {
    static const std::vector<Policy> rows{
        {.name = "full"},
        // Qin et al., ICLR 2025 (arXiv 2503.12491), and the official repository's parameters.
        {.name = "cake",
         .observe = Observe::Window,
         .score = ColumnScore::MeanPlusVariance,
         .share = Share::Preference,
         .decode = DecodeEvict::Position,
         .cache_size = 1024,
         .window = 32,
         .pool = 5,
         .gamma = 200,
         .tolerant = true},
        // Xiao et al., ICLR 2024 (arXiv 2309.17453): 4 attention sinks and the latest tokens. Keys keep their true
        // positions; the paper re-rotates them. Scores are all alike, so that ties keep the lowest positions.
        {.name = "streaming",
         .share = Share::Uniform,
         .decode = DecodeEvict::Position,
         .cache_size = 1024,
         .sinks = 4},
        // Li et al., NeurIPS 2024 (arXiv 2404.14469): the window's mean attention, pooled; the cache then grows.
        {.name = "snapkv",
         .observe = Observe::Window,
         .score = ColumnScore::Mean,
         .share = Share::Uniform,
         .cache_size = 1024,
         .window = 32,
         .pool = 5},
        // Cai et al. (arXiv 2406.02069): the same scores, shares that fall linearly from the first layer to the last.
        {.name = "pyramidkv",
         .observe = Observe::Window,
         .score = ColumnScore::Mean,
         .share = Share::Pyramid,
         .cache_size = 1024,
         .window = 32,
         .pool = 5},
        // Zhang et al., NeurIPS 2023 (arXiv 2306.14048): the heavy hitters, by all the attention that a token has had, and
        // a recent half.
        {.name = "h2o",
         .observe = Observe::All,
         .score = ColumnScore::Mean,
         .share = Share::Uniform,
         .decode = DecodeEvict::Position,
         .cache_size = 1024},
        // Oren et al. (arXiv 2401.06104): a state of C tokens, from which the one leaves that the newest attends to least,
        // over all heads of a layer. The newest itself stays.
        {.name = "tova",
         .observe = Observe::Window,
         .score = ColumnScore::Mean,
         .heads = Heads::All,
         .share = Share::Uniform,
         .decode = DecodeEvict::Position,
         .cache_size = 1024,
         .window = 1},
    };
    return rows;
}

template <typename Enum>
using Names = std::vector<std::pair<std::string, Enum>>;

// Sets `cell` from the configuration's word for it, where there is one.
template <typename Enum>
void set(Enum& cell, const std::optional<std::string>& word, const char* key,
         const Names<Enum>& names) {
    if (!word)
        return;
    std::string known;
    for (const auto& [name, value] : names) {
        if (name == *word) {
            cell = value;
            return;
        }
        known += (known.empty() ? "" : ", ") + name;
    }
    throw usage_error("policy.{} is {}; it can be {}", key, *word, known);
}

template <typename T, typename U>
void set(T& cell, const std::optional<U>& value) {
    if (value)
        cell = T(*value);
}

// The configuration's words for the cells.
const Names<Observe> observe_names{
    {"nothing", Observe::Nothing}, {"window", Observe::Window}, {"all", Observe::All}};
const Names<Heads> heads_names{{"group", Heads::Group}, {"all", Heads::All}};
const Names<ColumnScore> score_names{{"mean", ColumnScore::Mean},
                                     {"variance", ColumnScore::Variance},
                                     {"mean+variance", ColumnScore::MeanPlusVariance},
                                     {"product", ColumnScore::Product}};
const Names<Share> share_names{{"pyramid", Share::Pyramid},
                               {"random", Share::Random},
                               {"everything", Share::Everything},
                               {"uniform", Share::Uniform},
                               {"preference", Share::Preference}};
const Names<Rounding> rounding_names{{"exact", Rounding::Exact}, {"official", Rounding::Official}};
const Names<DecodeEvict> decode_names{{"none", DecodeEvict::None},
                                      {"position", DecodeEvict::Position},
                                      {"official", DecodeEvict::Official}};

template <typename Enum>
std::string word(Enum value, const Names<Enum>& names) {
    return std::find_if(names.begin(), names.end(),
                        [&](const auto& n) { return n.second == value; })
        ->first;
}

void check(const Policy& p) {
    if (p.keeps_everything())
        return;
    if (p.observe == Observe::Nothing && p.share == Share::Preference)
        throw usage_error(
            "policy.observe is nothing, and shares by preference need to observe: set it to "
            "window");
    if (p.observe == Observe::Nothing && (p.sinks < 0 || p.sinks >= p.cache_size))
        throw usage_error("policy.sinks is {}; it must be less than the cache size of {}", p.sinks,
                          p.cache_size);
    if (p.heads == Heads::All && p.observe != Observe::Window)
        throw usage_error(
            "policy.heads is all and policy.observe {}: scores are averaged over all heads where "
            "policy.observe is window",
            word(p.observe, observe_names));
    if (p.observe == Observe::All && p.share == Share::Preference)
        throw usage_error(
            "policy.observe is all, and shares by preference need a window: set policy.observe to "
            "window, or policy.share to another word");
    if (p.observe == Observe::All && p.score != ColumnScore::Mean)
        throw usage_error(
            "policy.score is {}; where policy.observe is all, columns are summed: it can be mean",
            word(p.score, score_names));
    if (p.observe == Observe::All && p.pool != 1)
        throw usage_error("policy.pool is {}; where policy.observe is all, it must be 1", p.pool);
    if (p.observe == Observe::All && p.stats != DType::F32)
        throw usage_error("policy.stats is model; where policy.observe is all, it must be f32");
    if (p.window < 1)
        throw usage_error("policy.window is {}; at least one token must observe", p.window);
    if (p.observe == Observe::Window && p.window < 2 &&
        (p.score != ColumnScore::Mean || p.share == Share::Preference))
        throw usage_error("policy.window is {}; a variance needs at least 2", p.window);
    if (p.observe != Observe::Nothing && p.cache_size <= p.window)
        throw usage_error(
            "policy.cache_size is {}, which the window of {} tokens fills: take a larger cache "
            "size or a "
            "smaller window",
            p.cache_size, p.window);
    if (p.pool < 1 || p.pool % 2 == 0)
        throw usage_error("policy.pool is {}; it must be odd and at least 1", p.pool);
    if (!(p.tau1 > 0) || !(p.tau2 > 0))
        throw usage_error("policy.tau1 is {}, policy.tau2 {}; both must be above 0", p.tau1,
                          p.tau2);
}

}  // namespace

std::vector<std::string> policy_names() {
    std::vector<std::string> names;
    for (const Policy& row : table())
        names.push_back(row.name);
    return names;
}

Policy make_policy(const PolicyConfig& c, const ModelConfig& model) {
    const auto row = std::find_if(table().begin(), table().end(),
                                  [&](const Policy& p) { return p.name == c.name; });
    if (row == table().end())
        throw usage_error("policy {} is unknown; there are: {}", c.name,
                          fmt::join(policy_names(), ", "));
    Policy p = *row;
    set(p.observe, c.observe, "observe", observe_names);
    set(p.score, c.score, "score", score_names);
    set(p.heads, c.heads, "heads", heads_names);
    set(p.share, c.share, "share", share_names);
    set(p.rounding, c.rounding, "rounding", rounding_names);
    set(p.decode, c.decode, "decode", decode_names);
    set(p.stats, c.stats, "stats", {{"f32", DType::F32}, {"model", model.dtype}});
    if (is_quantized(p.stats))
        p.stats = DType::F32;
    set(p.cascade, c.cascade);
    set(p.cache_size, c.cache_size);
    set(p.window, c.window);
    set(p.pool, c.pool);
    set(p.gamma, c.gamma);
    set(p.sinks, c.sinks);
    set(p.seed, c.seed);
    if (p.observe == Observe::Nothing) {  // recency is the window
        p.window = p.cache_size - p.sinks;
        p.tolerant = false;
    }
    if (p.observe == Observe::All && p.window == 0)
        p.window = p.cache_size / 2;
    if (p.keeps_everything()) {  // nothing to observe, nothing to evict, whatever the other cells say
        p.observe = Observe::Nothing;
        p.heads = Heads::Group;
        p.decode = DecodeEvict::None;
        p.window = 0;
        p.cache_size = 0;
        return p;
    }
    const ModelDefaults defaults = model_defaults(model, p.cache_size);
    p.tau1 = c.tau1.value_or(defaults.tau1);
    p.tau2 = c.tau2.value_or(defaults.tau2);
    check(p);
    if (c.window && *c.window != p.window)
        throw usage_error(
            "policy.window is {}, and where nothing observes it is the cache size less the sinks, "
            "{}: leave it out",
            *c.window, p.window);
    if (p.rounding == Rounding::Official && p.share != Share::Preference)
        throw usage_error("policy.rounding official belongs to shares by preference: leave it out");
    return p;
}

PolicyConfig resolved(const PolicyConfig& config, const Policy& p) {
    PolicyConfig c = config;
    c.cache_size = p.cache_size;
    c.window = p.window;
    c.tau1 = p.tau1;
    c.tau2 = p.tau2;
    c.gamma = p.gamma;
    c.pool = p.pool;
    c.sinks = p.sinks;
    c.seed = std::int64_t(p.seed);
    c.cascade = p.cascade;
    c.observe = word(p.observe, observe_names);
    c.score = word(p.score, score_names);
    c.heads = word(p.heads, heads_names);
    c.share = word(p.share, share_names);
    c.rounding = word(p.rounding, rounding_names);
    c.decode = word(p.decode, decode_names);
    c.stats = p.stats == DType::F32 ? "f32" : "model";
    return c;
}

}  // namespace cake
