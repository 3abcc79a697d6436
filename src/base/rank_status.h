// What a rank is at, kept where those can read it who have to tell when it no longer can: a signal handler, and the other
// ranks of its host.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/fault.h"

namespace cake {

// Of a run. What a rank may wait for in Input (a prompt typed into a terminal) comes when it comes.
enum class RunPart : std::uint8_t { Start, Input, Load, Prefill, Decode, Write };
const char* name(RunPart part);

// What a rank may wait in for other ranks.
enum class Call : std::uint8_t {
    None,
    AllReduce,
    AllGather,
    Broadcast,
    Sum,
    GatherStrings,
    Barrier,
    Split,
    Message,   // from one rank
    Replicas,  // until all are done
    Device,    // which may wait for other ranks' devices
};
const char* name(Call call);

// A reading of it, as ranks send it to other hosts.
struct Whereabouts {
    std::uint64_t progress = 0;  // grows with whatever the rank gets done
    std::uint64_t number = 0;    // of the call in its group
    std::uint32_t group = 0;     // that the call is of
    std::int32_t layer = -1;     // -1: none
    RunPart part = RunPart::Start;
    Call call = Call::None;  // None: it does not wait
};

// "prefill, layer 12"
std::string place(const Whereabouts& at);

// The last line of a run, on stderr: why it ends, and which rank was at what then.
void print_last_word(int rank, const std::string& host, const Whereabouts& at,
                     const std::string& why);

class RankStatus {
public:
    // Usage error where CAKE_FAULT is not understood.
    RankStatus(int rank, std::string host);
    ~RankStatus();
    RankStatus(const RankStatus&) = delete;
    RankStatus& operator=(const RankStatus&) = delete;

    int rank() const { return rank_; }
    const std::string& host() const { return host_; }

    void at(RunPart part, int layer = -1);
    void advance() { page_->progress.fetch_add(1, std::memory_order_relaxed); }
    void enter(Call call, std::uint32_t group, std::uint64_t number);
    void leave();
    Whereabouts read() const { return page_->read(); }
    int layer() const { return page_->layer.load(std::memory_order_relaxed); }

    // This process is about to end with this exit code, and has said why, or is about to: others need not. False: it has
    // said so before. For signal handlers too.
    bool claim_last_word(int exit_code);
    // Claims it, and prints it, once.
    void last_word(int exit_code, const std::string& why);
    // From here on it ends in good order.
    void end() { page_->ending = Ending::InGoodOrder; }

    enum class Ending : std::uint8_t { None, Said, InGoodOrder };

    // Atomics alone, in memory of its own that other processes may map.
    struct Page {
        std::uint64_t nonce = 0;  // no other process' page has it
        std::atomic<std::uint64_t> progress{0}, number{0};
        std::atomic<std::uint32_t> group{0};
        std::atomic<std::int32_t> layer{-1}, exit_code{0};
        std::atomic<RunPart> part{RunPart::Start};
        std::atomic<Call> call{Call::None};
        std::atomic<Ending> ending{Ending::None};

        Whereabouts read() const;
    };
    static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

    const Page& page() const { return *page_; }
    // The file of the page, which has no name; -1 where there is none.
    int file() const { return file_; }

private:
    int rank_;
    std::string host_;
    std::optional<Fault> fault_;
    int file_ = -1;
    Page* page_ = nullptr;
};

// Another process' page; null where it cannot be reached, or is not the one with this nonce.
std::shared_ptr<const RankStatus::Page> map_page(int pid, int file, std::uint64_t nonce);

}  // namespace cake
