#include "base/rank_status.h"

#include <cstdio>
#include <fcntl.h>
#include <new>
#include <random>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace cake {

const char* name(RunPart part) {
    switch (part) {
        case RunPart::Start: return "start";
        case RunPart::Input: return "input";
        case RunPart::Load: return "load";
        case RunPart::Prefill: return "prefill";
        case RunPart::Decode: return "decode";
        case RunPart::Write: return "write";
    }
    return "?";
}

const char* name(Call call) {
    switch (call) {
        case Call::None: return "nothing";
        case Call::AllReduce: return "all-reduce";
        case Call::AllGather: return "all-gather";
        case Call::Broadcast: return "broadcast";
        case Call::Sum: return "sum";
        case Call::GatherStrings: return "gather";
        case Call::Barrier: return "barrier";
        case Call::Split: return "split";
        case Call::Message: return "message";
        case Call::Replicas: return "end of the replicas";
        case Call::Device: return "work of the GPU";
    }
    return "?";
}

std::string place(const Whereabouts& at) {
    return at.layer < 0 ? std::string(name(at.part))
                        : fmt::format("{}, layer {}", name(at.part), at.layer);
}

void print_last_word(int rank, const std::string& host, const Whereabouts& at,
                     const std::string& why) {
    const std::string line =
        fmt::format("cake: error: rank {} on {}, {}: {}\n", rank, host, place(at), why);
    fmt::print(stderr, "{}", line);
    [[maybe_unused]] const ssize_t written = write(log_file(), line.data(), line.size());
}

Whereabouts RankStatus::Page::read() const {
    return {.progress = progress,
            .number = number,
            .group = group,
            .layer = layer,
            .part = part,
            .call = call};
}

RankStatus::RankStatus(int rank, std::string host)
    : rank_(rank), host_(std::move(host)), fault_(planted_fault(rank)) {
    file_ = memfd_create("cake rank status", MFD_CLOEXEC);
    void* memory = MAP_FAILED;
    if (file_ >= 0 && ftruncate(file_, sizeof(Page)) == 0)
        memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (memory == MAP_FAILED)  // then for this process alone
        memory =
            mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CAKE_CHECK(memory != MAP_FAILED, "no memory for the status of a rank");
    page_ = new (memory) Page;
    std::random_device random;
    page_->nonce = std::uint64_t(random()) << 32 | random();
}

RankStatus::~RankStatus() {
    munmap(page_, sizeof(Page));
    if (file_ >= 0)
        close(file_);
}

void RankStatus::at(RunPart part, int layer) {
    page_->part.store(part, std::memory_order_relaxed);
    page_->layer.store(layer, std::memory_order_relaxed);
    advance();
    if (fault_ && fault_->part == name(part) && (fault_->layer < 0 || fault_->layer == layer))
        strike(*fault_);
}

void RankStatus::enter(Call call, std::uint32_t group, std::uint64_t number) {
    page_->group.store(group, std::memory_order_relaxed);
    page_->number.store(number, std::memory_order_relaxed);
    page_->call.store(call, std::memory_order_relaxed);
    advance();
}

void RankStatus::leave() {
    page_->call.store(Call::None, std::memory_order_relaxed);
    advance();
}

bool RankStatus::claim_last_word(int exit_code) {
    int unclaimed = 0;
    if (!page_->exit_code.compare_exchange_strong(unclaimed, exit_code))
        return false;
    page_->ending = Ending::Said;
    return true;
}

void RankStatus::last_word(int exit_code, const std::string& why) {
    if (claim_last_word(exit_code))
        print_last_word(rank_, host_, read(), why);
}

std::shared_ptr<const RankStatus::Page> map_page(int pid, int file, std::uint64_t nonce) {
    using Page = RankStatus::Page;
    const std::string path = fmt::format("/proc/{}/fd/{}", pid, file);
    const int opened = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0)
        return {};
    void* memory = MAP_FAILED;
    if (lseek(opened, 0, SEEK_END) == off_t(sizeof(Page)))
        memory = mmap(nullptr, sizeof(Page), PROT_READ, MAP_SHARED, opened, 0);
    close(opened);
    if (memory == MAP_FAILED)
        return {};
    std::shared_ptr<const Page> page(static_cast<const Page*>(memory), [](const Page* mapped) {
        munmap(const_cast<Page*>(mapped), sizeof(Page));
    });
    return page->nonce == nonce ? page : nullptr;
}

}  // namespace cake
