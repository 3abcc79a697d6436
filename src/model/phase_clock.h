// Where time is booked, by phase.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/nvtx.h"
#include "base/timer.h"
#include "kernels/backend.h"

namespace cake {

// When each phase was, of the first kMost of a rank.
struct PhaseTrace {
    static constexpr std::size_t kMost = 1 << 17;
    struct Span {
        Phase phase;
        int layer;  // -1: none
        double begin_s, seconds;
        const char* part;  // "prefill", "decode"
    };
    Event last;         // a phase's begin, or where times count from
    double last_s = 0;  // when that was: devices tell short times exactly, long ones not
    std::vector<Span> spans;
};

// Books what one stream is busy with, in the time of its device: a GPU gets to a phase long after the host has put it in.
// Where a phase begins and ends an event is recorded, and what lies between is added once the host has waited for the
// device anyway: nobody waits for a time. Phases are of one stream, one after another, so they add up to no more than the
// wall's time; of sums that another stream makes, AllReduce is what this one waits for them.
class PhaseClock {
public:
    explicit PhaseClock(Backend& dev) : dev_(dev) {}
    PhaseClock(const PhaseClock&) = delete;
    PhaseClock& operator=(const PhaseClock&) = delete;

    // Of all that the device is done with.
    PhaseTimes& times() {
        settle();
        return times_;
    }
    // Adds what the device is done with. After every wait, so that few events are held.
    void settle() {
        for (; !spans_.empty(); spans_.pop_front()) {
            const Span& span = spans_.front();
            const auto seconds = dev_.seconds_between(span.begin, span.end);
            if (!seconds)
                return;
            for (double* sum : span.sums)
                if (sum)
                    *sum += *seconds;
            if (trace_ && span.phase && trace_->spans.size() < PhaseTrace::kMost)
                trace(span, *seconds);
        }
    }
    // Also notes when each phase is; `trace` lives as long as this is used. `part` is of static storage.
    void trace(PhaseTrace& trace, const char* part) {
        trace_ = &trace;
        part_ = part;
    }
    // From zero, without what is under way.
    void restart() {
        spans_.clear();
        times_ = {};
    }

private:
    friend class PhaseScope;
    friend class PhaseShare;
    struct Span {
        Event begin, end;
        std::array<double*, 2> sums;  // that it is added to; null: none
        std::optional<Phase> phase;   // none: a share
        int layer;
    };

    void trace(const Span& span, double seconds) {
        trace_->last_s += dev_.seconds_between(trace_->last, span.begin).value_or(0);
        trace_->last = span.begin;
        trace_->spans.push_back({*span.phase, span.layer, trace_->last_s, seconds, part_});
    }

    // For destructors: where the device has failed the time is lost, and the next call to it says why.
    void end_span(Stream stream, const Event& begin, std::array<double*, 2> sums,
                  std::optional<Phase> phase = {}, int layer = -1) noexcept {
        try {
            spans_.push_back({begin, dev_.record(stream), sums, phase, layer});
        } catch (const Error&) {
        }
    }

    Backend& dev_;
    PhaseTimes times_;
    PhaseTimes* share_ = nullptr;
    PhaseTrace* trace_ = nullptr;
    const char* part_ = "";
    std::deque<Span> spans_;  // by end
};

// Adds the time of its scope to a phase. A clock of null: to none, and nothing is recorded. `layer`: for traces.
class PhaseScope {
public:
    PhaseScope(PhaseClock* clock, Phase phase, Stream stream, int layer = -1)
        : range_(name(phase)), clock_(clock), phase_(phase), stream_(stream), layer_(layer) {
        if (clock_)
            begin_ = clock_->dev_.record(stream_);
    }
    ~PhaseScope() {
        if (!clock_)
            return;
        PhaseTimes* const share = clock_->share_;
        clock_->end_span(stream_, begin_,
                         {&clock_->times_[phase_], share ? &(*share)[phase_] : nullptr}, phase_,
                         layer_);
    }
    PhaseScope(const PhaseScope&) = delete;
    PhaseScope& operator=(const PhaseScope&) = delete;

private:
    NvtxRange range_;
    PhaseClock* clock_;
    Phase phase_;
    Stream stream_;
    int layer_;
    Event begin_;
};

// Adds the phases of its scope to `share` too, and its time to the share's total. What is booked to `share` is complete
// once the clock has settled after a wait, and until then `share` stays where it is.
class PhaseShare {
public:
    PhaseShare(PhaseClock* clock, Stream stream, PhaseTimes& share)
        : clock_(clock), stream_(stream) {
        if (!clock_)
            return;
        clock_->share_ = &share;
        begin_ = clock_->dev_.record(stream_);
    }
    ~PhaseShare() {
        if (clock_)
            clock_->end_span(stream_, begin_,
                             {&std::exchange(clock_->share_, nullptr)->total_s, nullptr});
    }
    PhaseShare(const PhaseShare&) = delete;
    PhaseShare& operator=(const PhaseShare&) = delete;

private:
    PhaseClock* clock_;
    Stream stream_;
    Event begin_;
};

}  // namespace cake
