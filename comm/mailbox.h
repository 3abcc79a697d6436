// Messages from one rank to another, outside of any collective.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace cake {

// Ranks are those of World. Two threads of a rank may use one at the same time.
class Mailbox {
public:
    struct Message {
        int from;
        std::string bytes;
    };

    // Collective over all ranks; needs MPI, so there must be more than one rank.
    Mailbox();
    ~Mailbox();
    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;

    // Returns once `bytes` may be reused; a long message waits for its receiver. Messages of one rank to another arrive
    // in order.
    void send(int to, const std::string& bytes);
    // What has arrived, from whomever.
    std::optional<Message> poll();
    // The next message. Waits without keeping a core busy, so it answers within about a millisecond.
    Message wait();

private:
    struct Mpi;
    std::unique_ptr<Mpi> mpi_;
};

}  // namespace cake
