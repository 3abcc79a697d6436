#include "comm/mailbox.h"

#include <chrono>
#include <climits>
#include <thread>

#include <mpi.h>
#include <spdlog/spdlog.h>

#include "base/error.h"
#include "comm/mpi_check.h"

namespace cake {

struct Mailbox::Mpi {
    MPI_Comm comm = MPI_COMM_NULL;
};

Mailbox::Mailbox() : mpi_(std::make_unique<Mpi>()) {
    MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &mpi_->comm));
    MPI_CHECK(MPI_Comm_set_errhandler(mpi_->comm, MPI_ERRORS_RETURN));
}

Mailbox::~Mailbox() {
    int over = 0;
    MPI_Finalized(&over);
    if (!over && MPI_Comm_free(&mpi_->comm) != MPI_SUCCESS)
        spdlog::error("MPI_Comm_free failed");
}

void Mailbox::send(int to, const std::string& bytes) {
    CAKE_CHECK(bytes.size() <= INT_MAX, "a message of {} bytes", bytes.size());
    MPI_CHECK(MPI_Send(bytes.data(), int(bytes.size()), MPI_BYTE, to, 0, mpi_->comm));
}

std::optional<Mailbox::Message> Mailbox::poll() {
    int there = 0, bytes = 0;
    MPI_Message handle = MPI_MESSAGE_NULL;
    MPI_Status status;
    MPI_CHECK(MPI_Improbe(MPI_ANY_SOURCE, 0, mpi_->comm, &there, &handle, &status));
    if (!there)
        return {};
    MPI_CHECK(MPI_Get_count(&status, MPI_BYTE, &bytes));
    Message message{status.MPI_SOURCE, std::string(std::size_t(bytes), '\0')};
    MPI_CHECK(MPI_Mrecv(message.bytes.data(), bytes, MPI_BYTE, &handle, MPI_STATUS_IGNORE));
    return message;
}

Mailbox::Message Mailbox::wait() {
    for (;;) {
        if (auto message = poll())
            return *std::move(message);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

}  // namespace cake
