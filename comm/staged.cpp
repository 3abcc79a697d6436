#include "comm/staged.h"

#include <utility>

#include "comm/gather_parts.h"

namespace cake {
namespace {

class StagedCommunicator final : public Communicator {
public:
    StagedCommunicator(std::unique_ptr<Communicator> inner, DeviceCopies device)
        : inner_(std::move(inner)), device_(std::move(device)) {}

    int rank() const override { return inner_->rank(); }
    int size() const override { return inner_->size(); }
    std::string name() const override { return inner_->name(); }
    Traffic traffic() const override { return inner_->traffic(); }

    bool in_stream() const override { return size() == 1; }  // which sends nothing

    void all_reduce_sum(Stream s, View data) override {
        if (size() == 1 || data.elements() == 0)
            return inner_->all_reduce_sum(s, data);  // reads nothing, checks the type
        const View host = staging(data.dtype(), data.elements());
        download(s, host, data);
        inner_->all_reduce_sum(s, host);
        upload(s, data, host);
    }

    void all_gather(Stream s, View part, std::span<const std::int64_t> elements,
                    View out) override {
        const GatherParts parts = check_gather(*this, part, elements, out);
        if (parts.total == 0)
            return;
        if (size() == 1) {
            if (part.data() != out.data())
                device_.copy(s, out.reshaped(part.shape()), part);
            return;
        }
        const View host = staging(out.dtype(), parts.total);
        const View host_part = host.rows(parts.first, parts.mine);
        if (parts.mine > 0)
            download(s, host_part, part);
        inner_->all_gather(s, host_part, elements, host);
        upload(s, out, host);
    }

    void broadcast(Stream s, View data, int root) override {
        if (size() == 1 || data.elements() == 0)
            return inner_->broadcast(s, data, root);  // reads nothing, checks the root
        const View host = staging(data.dtype(), data.elements());
        if (rank() == root)
            download(s, host, data);
        inner_->broadcast(s, host, root);
        if (rank() != root)
            upload(s, data, host);
    }

    void sum(std::span<double> values) override { inner_->sum(values); }
    void broadcast_bytes(std::span<std::byte> bytes, int root) override {
        inner_->broadcast_bytes(bytes, root);
    }
    std::vector<std::string> gather_strings(const std::string& mine) override {
        return inner_->gather_strings(mine);
    }
    void barrier() override { inner_->barrier(); }

    std::unique_ptr<Communicator> split(int color) override {
        return make_staged_communicator(inner_->split(color), device_);
    }

private:
    // The staging memory as so many elements. No copy is under way in it between two calls.
    View staging(DType dtype, std::int64_t elements) {
        const std::size_t bytes = bytes_of(dtype, elements);
        if (bytes > staging_.bytes()) {
            staging_ = {};  // not both at once
            staging_ = device_.pinned(bytes);
        }
        return View(staging_.data(), dtype, Shape{elements});
    }

    void download(Stream s, View host, View data) {
        device_.copy(s, host, data.reshaped(host.shape()));
        device_.synchronize(s);
    }

    void upload(Stream s, View data, View host) {
        device_.copy(s, data.reshaped(host.shape()), host);
        device_.synchronize(s);
    }

    std::unique_ptr<Communicator> inner_;
    DeviceCopies device_;
    Buffer staging_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner,
                                                       DeviceCopies device) {
    return std::make_unique<StagedCommunicator>(std::move(inner), std::move(device));
}

}  // namespace cake
