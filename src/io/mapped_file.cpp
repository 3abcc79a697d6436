#include "io/mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace cake {
namespace {

// Closes on every way out; a mapping outlives its descriptor.
struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0)
            ::close(fd);
    }
};

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
    // O_NONBLOCK: a named pipe must be refused below, not waited for.
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.fd < 0)
        throw usage_error("cannot open {}: {}", path, std::strerror(errno));
    struct stat status {};
    if (::fstat(file.fd, &status) != 0)
        throw usage_error("cannot read {}: {}", path, std::strerror(errno));
    if (S_ISDIR(status.st_mode))
        throw usage_error("{} is a folder, a file is expected here", path);
    if (!S_ISREG(status.st_mode))
        throw usage_error("{} is not a regular file", path);
    if (status.st_size == 0)
        throw usage_error("{} is empty; fetch it again", path);

    const auto size = std::size_t(status.st_size);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (data == MAP_FAILED)
        throw usage_error("cannot map {} ({} bytes): {}", path, size, std::strerror(errno));
    data_ = static_cast<const std::byte*>(data);
    size_ = size;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    if (this != &other) {
        unmap();
        path_ = std::move(other.path_);
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
    }
    return *this;
}

MappedFile::~MappedFile() { unmap(); }

void MappedFile::unmap() noexcept {
    if (data_)
        ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) const {
    if (part.empty())
        return;
    CAKE_CHECK(part.data() >= data_ && part.data() + part.size() <= data_ + size_,
               "bytes to release are not of {}", path_);
    // A fault maps its neighbours too, in windows of 64 KiB (Linux: fault_around_bytes), so whole
    // windows are given back, a multiple of every page size in use. Pages of a private mapping
    // that nobody wrote are clean: dropping a neighbour's costs it a fault, never its bytes.
    constexpr std::size_t window = 64 * 1024;
    const auto base = reinterpret_cast<std::uintptr_t>(data_);  // page-aligned
    const auto first = reinterpret_cast<std::uintptr_t>(part.data());
    const std::uintptr_t begin = std::max(base, first / window * window);
    const std::uintptr_t end =
        std::min(base + size_, (first + part.size() + window - 1) / window * window);
    // Advice only: where the system declines, memory is held longer and nothing else changes.
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace cake
