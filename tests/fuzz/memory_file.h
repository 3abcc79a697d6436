// A file that lives in memory alone, for readers that want a path.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>

struct MemoryFile {
    int fd = ::memfd_create("fuzz", 0);
    explicit MemoryFile(std::string_view bytes) {
        if (::write(fd, bytes.data(), bytes.size()) != ssize_t(bytes.size()))
            std::abort();
    }
    ~MemoryFile() { ::close(fd); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    std::string path() const { return "/proc/self/fd/" + std::to_string(fd); }
};
