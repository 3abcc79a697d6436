#include "comm/heartbeats.h"

#include <chrono>
#include <thread>

#include <mpi.h>

#include "comm/mpi_check.h"

namespace cake {

struct Heartbeats::Mpi {
    struct Peer {
        int rank;
        Whereabouts out, in;  // under way
        MPI_Request sending = MPI_REQUEST_NULL, receiving = MPI_REQUEST_NULL;
    };
    MPI_Comm comm = MPI_COMM_NULL;
    std::vector<Peer> peers;

    void listen(Peer& peer) {
        MPI_CHECK(MPI_Irecv(&peer.in, int(sizeof(Whereabouts)), MPI_BYTE, peer.rank, 0, comm,
                            &peer.receiving));
    }
};

Heartbeats::Heartbeats(std::vector<int> with) : mpi_(std::make_unique<Mpi>()) {
    MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &mpi_->comm));
    MPI_CHECK(MPI_Comm_set_errhandler(mpi_->comm, MPI_ERRORS_RETURN));
    for (int rank : with)
        mpi_->peers.push_back({rank, {}, {}});
    for (Mpi::Peer& peer : mpi_->peers)
        mpi_->listen(peer);
}

// The communicator goes with MPI_Finalize: another rank may still send to it.
Heartbeats::~Heartbeats() {
    bool all_sent = true;
    for (Mpi::Peer& peer : mpi_->peers) {
        MPI_Cancel(&peer.receiving);
        MPI_Wait(&peer.receiving, MPI_STATUS_IGNORE);
        int sent = 0;
        for (int turn = 0; turn < 100 && !sent; ++turn) {
            MPI_Test(&peer.sending, &sent, MPI_STATUS_IGNORE);
            if (!sent)
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        all_sent = all_sent && sent;
    }
    if (!all_sent)
        static_cast<void>(mpi_.release());  // MPI still reads from it
}

void Heartbeats::send(const Whereabouts& mine) {
    for (Mpi::Peer& peer : mpi_->peers) {
        int sent = 0;
        MPI_CHECK(MPI_Test(&peer.sending, &sent, MPI_STATUS_IGNORE));
        if (!sent)
            continue;
        peer.out = mine;
        MPI_CHECK(MPI_Isend(&peer.out, int(sizeof(Whereabouts)), MPI_BYTE, peer.rank, 0, mpi_->comm,
                            &peer.sending));
    }
}

const Heartbeats::Beat* Heartbeats::next() {
    for (Mpi::Peer& peer : mpi_->peers) {
        int there = 0;
        MPI_CHECK(MPI_Test(&peer.receiving, &there, MPI_STATUS_IGNORE));
        if (!there)
            continue;
        received_ = {peer.rank, peer.in};
        mpi_->listen(peer);
        return &received_;
    }
    return nullptr;
}

}  // namespace cake
