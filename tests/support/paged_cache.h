// Pages of a few layers and sequences in a backend's memory, and a view of them from the host.
#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/layer_pages.h"
#include "support/backends.h"

namespace cake::test {

// Every layer of every sequence has max_pages pages, dealt out in a random order. What nobody has written is 0xff:
// a NaN as a float, -1 as an integer.
class PagedCache {
public:
    PagedCache(Backend& dev, const PageLayout& layout, int n_layers, int batch, int max_pages)
        : layout_(layout),
          n_layers_(n_layers),
          batch_(batch),
          max_pages_(max_pages),
          dev_(dev),
          tables_host_(std::size_t(n_layers * batch * max_pages)),
          lengths_(dev.tensor(DType::I32, {n_layers, batch})),
          budgets_(dev.tensor(DType::I32, {n_layers, batch})),
          positions_(dev.tensor(DType::I32, {batch})) {
        std::iota(tables_host_.begin(), tables_host_.end(), 1);  // page 0 belongs to nobody
        std::shuffle(tables_host_.begin(), tables_host_.end(), std::mt19937(5));
        tables_ = upload(dev, tables_host_, {n_layers, batch, max_pages});
        host_ = Tensor::host(DType::U8,
                             {std::int64_t(tables_host_.size()) + 1, std::int64_t(layout.bytes())});
        std::memset(host_.view().data(), 0xff, host_.bytes());
        slab_ = dev.tensor(DType::U8, host_.shape());
        push();
    }

    // From the host's copy to the backend, and back.
    void push() { transfer(slab_, host_); }
    void pull() { transfer(host_, slab_); }

    // [n_layers, batch]; positions: [batch]
    void set_lengths(const std::vector<std::int32_t>& x) { set(lengths_, x); }
    void set_budgets(const std::vector<std::int32_t>& x) { set(budgets_, x); }
    void set_positions(const std::vector<std::int32_t>& x) { set(positions_, x); }
    std::vector<std::int32_t> lengths() { return download<std::int32_t>(dev_, lengths_); }
    std::vector<std::int32_t> positions() { return download<std::int32_t>(dev_, positions_); }

    PagedBatch batch() const { return {layout_, slab_, tables_, lengths_, budgets_, positions_}; }
    PageList list(int layer, int b) const {
        const View table(static_cast<std::int32_t*>(tables_.view().data()) + table_at(layer, b),
                         DType::I32, {max_pages_});
        return {layout_, slab_, table};
    }
    // The host's copy.
    LayerPages pages(int layer, int b) const {
        return LayerPages(layout_, host_, tables_host_.data() + table_at(layer, b));
    }
    int capacity() const { return max_pages_ * layout_.page_tokens; }

    std::vector<std::int32_t> order(int layer, int b, int head) const {
        std::vector<std::int32_t> out;
        for (int i = 0; i < capacity(); ++i)
            out.push_back(pages(layer, b).order(head, i));
        return out;
    }
    // Positions of the first `length` entries of the order list.
    std::vector<std::int32_t> listed_positions(int layer, int b, int head, int length) const {
        std::vector<std::int32_t> out;
        for (int i = 0; i < length; ++i)
            out.push_back(pages(layer, b).position(head, pages(layer, b).order(head, i)));
        return out;
    }
    std::vector<float> key(int layer, int b, int head, int slot) const {
        return layout_.dtype == DType::BF16 ? widened<bf16>(pages(layer, b).k<bf16>(head, slot))
                                            : widened<float>(pages(layer, b).k<float>(head, slot));
    }
    std::vector<float> value(int layer, int b, int head, int slot) const {
        return layout_.dtype == DType::BF16 ? widened<bf16>(pages(layer, b).v<bf16>(head, slot))
                                            : widened<float>(pages(layer, b).v<float>(head, slot));
    }
    // Into the host's copy; rows of d_head.
    void set_slot(int layer, int b, int head, int slot, const float* k, const float* v) {
        for (int c = 0; c < layout_.d_head; ++c) {
            if (layout_.dtype == DType::BF16) {
                pages(layer, b).k<bf16>(head, slot)[c] = to_bf16(k[c]);
                pages(layer, b).v<bf16>(head, slot)[c] = to_bf16(v[c]);
            } else {
                pages(layer, b).k<float>(head, slot)[c] = k[c];
                pages(layer, b).v<float>(head, slot)[c] = v[c];
            }
        }
    }

private:
    std::size_t table_at(int layer, int b) const {
        return std::size_t((layer * batch_ + b) * max_pages_);
    }
    void transfer(const Tensor& to, const Tensor& from) {
        dev_.copy({}, to, from);
        dev_.synchronize({});
    }
    void set(const Tensor& to, const std::vector<std::int32_t>& x) {
        transfer(to, upload(dev_, x, to.shape()));
    }
    template <typename T>
    std::vector<float> widened(const T* row) const {
        std::vector<float> out;
        for (int c = 0; c < layout_.d_head; ++c)
            out.push_back(to_float(row[c]));
        return out;
    }

    PageLayout layout_;
    int n_layers_, batch_, max_pages_;
    Backend& dev_;
    std::vector<std::int32_t> tables_host_;
    Tensor host_, slab_, tables_, lengths_, budgets_, positions_;
};

// Rows of floats at offsets, in a backend's memory, and their values before anything was written.
class Ragged {
public:
    // sizes: floats of a block for each (layer, sequence), -1 for none. Blocks have gaps of `gap` floats between them.
    Ragged(Backend& dev, const std::vector<std::int64_t>& sizes, Shape layers_by_batch,
           std::int64_t n_rows, std::int64_t gap = 3)
        : dev_(dev) {
        std::int64_t total = 0;
        for (std::int64_t size : sizes) {
            offsets_host_.push_back(size < 0 ? -1 : total);
            total += size < 0 ? 0 : size + gap;
        }
        total = (total + n_rows - 1) / n_rows * n_rows;
        data_ = upload(dev, std::vector<float>(std::size_t(total), kUntouched),
                       {n_rows, total / n_rows});
        const Tensor host = Tensor::host(DType::I64, layers_by_batch);
        std::copy(offsets_host_.begin(), offsets_host_.end(), host.view().as<std::int64_t>());
        offsets_ = dev.tensor(DType::I64, layers_by_batch);
        dev.copy({}, offsets_, host);
        dev.synchronize({});
    }
    static constexpr float kUntouched = -7;

    RaggedRows rows() const { return {data_, offsets_}; }
    std::int64_t offset(std::size_t block) const { return offsets_host_[block]; }
    std::vector<float> values() const { return download<float>(dev_, data_); }
    std::vector<float> block(std::size_t block, std::int64_t n) const {
        const std::vector<float> all = values();
        return {all.begin() + offset(block), all.begin() + offset(block) + n};
    }
    void set(const std::vector<float>& values) {
        const Tensor from = upload(dev_, values, data_.shape());
        dev_.copy({}, data_, from);
        dev_.synchronize({});
    }

private:
    Backend& dev_;
    std::vector<std::int64_t> offsets_host_;
    Tensor data_, offsets_;
};

}  // namespace cake::test
