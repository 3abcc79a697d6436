// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace cake {

class MappedFile {
public:
    // Throws a usage error that names the path and the reason (missing, a folder, no permission,
    // empty). The file must not shrink while it is mapped: the system then ends the reader.
    explicit MappedFile(const std::string& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    const std::string& path() const { return path_; }
    std::span<const std::byte> bytes() const { return {data_, size_}; }

    // Tells the system that these bytes will not be needed again: keeps resident memory at the
    // reader's share. The bytes stay valid; who reads them again pays a page fault.
    void release(std::span<const std::byte> part) const;

private:
    void unmap() noexcept;

    std::string path_;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace cake
