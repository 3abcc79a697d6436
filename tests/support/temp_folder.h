// A folder for the files of one test, removed with all that is in it when the test ends.
#pragma once

#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include <stdlib.h>

#include "base/error.h"

namespace cake {

class TempFolder {
public:
    TempFolder() : path_((std::filesystem::temp_directory_path() / "cake-test-XXXXXX").string()) {
        CAKE_CHECK(::mkdtemp(path_.data()), "cannot make {}", path_);
    }
    ~TempFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;

    const std::string& path() const { return path_; }
    std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }

    // Writes a file of this folder, returns its path.
    std::string write(std::string_view name, std::string_view text) const {
        const std::string path = file(name);
        std::ofstream out(path, std::ios::binary);
        out.write(text.data(), std::streamsize(text.size()));
        out.close();
        CAKE_CHECK(out, "cannot write {}", path);
        return path;
    }
    std::string write(std::string_view name, std::span<const std::byte> bytes) const {
        return write(name,
                     std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    }

private:
    std::string path_;
};

}  // namespace cake
