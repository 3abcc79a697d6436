#include "base/build_id.h"

#include <cstring>

#include <elf.h>
#include <fmt/format.h>
#include <link.h>

namespace cake {
namespace {

// A segment of notes: each is a header, a name and a description, both padded to 4 bytes.
std::string find_build_id(const char* notes, std::size_t size) {
    const auto padded = [](std::size_t n) { return (n + 3) / 4 * 4; };
    std::string id;
    for (std::size_t at = 0; at + sizeof(ElfW(Nhdr)) <= size;) {
        ElfW(Nhdr) note;
        std::memcpy(&note, notes + at, sizeof(note));
        const char* name = notes + at + sizeof(note);
        const char* description = name + padded(note.n_namesz);
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            std::memcmp(name, "GNU", 4) == 0)
            for (std::size_t i = 0; i < note.n_descsz && i < 8; ++i)
                id += fmt::format("{:02x}", static_cast<unsigned char>(description[i]));
        at += sizeof(note) + padded(note.n_namesz) + padded(note.n_descsz);
    }
    return id;
}

// Called for each loaded object, the program first; not 0: no more of them.
int look_at_program(dl_phdr_info* object, std::size_t, void* id) {
    for (int i = 0; i < object->dlpi_phnum; ++i) {
        const ElfW(Phdr)& segment = object->dlpi_phdr[i];
        if (segment.p_type != PT_NOTE)
            continue;
        const std::string found = find_build_id(
            reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr), segment.p_memsz);
        if (!found.empty())
            *static_cast<std::string*>(id) = found;
    }
    return 1;
}

}  // namespace

std::string build_id() {
    std::string id;
    dl_iterate_phdr(look_at_program, &id);
    return id;
}

}  // namespace cake
