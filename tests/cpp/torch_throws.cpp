// PyTorch's callbacks in a program in C++: where the caller does not look at NULL, a failure is an exception that it can catch.
#include <cstdio>
#include <cstring>
#include <functional>
#include <neuro_memory.h>
#include <stdexcept>
#include <string>

static int failures;

#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            std::printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                      \
        }                                                                    \
    } while (0)

// What the exception says that `call` throws; empty if it throws none.
static std::string thrown(const std::function<void()> &call) {
    try {
        call();
    } catch (const std::runtime_error &error) {
        return error.what();
    }
    return "";
}

static bool has(const std::string &text, const char *words) { return text.find(words) != std::string::npos; }

int main() {
    CHECK(has(thrown(neuro_torch_refuse_graph), "capture the graph without it"));
    // Of a number that is bound to nothing nobody knows what its caller looks at.
    CHECK(thrown([] { CHECK(neuro_torch_alloc_7(1, 0, nullptr) == nullptr); }).empty());

    neuro_pool_options_t options = {};
    options.struct_size = sizeof options;
    options.limit_bytes = 1 << 20;
    options.device = {NEURO_DEVICE_CUDA, 0};
    neuro_pool_t *pool = nullptr;
    if (neuro_pool_create(&options, &pool) != NEURO_OK) {
        std::printf("FAILED no device: %s\n", neuro_last_error());
        return 1;
    }
    uint32_t throws = 9, returns = 9;
    CHECK(neuro_torch_bind(pool, NEURO_TORCH_THROW, &throws) == NEURO_OK && throws == 0);
    CHECK(neuro_torch_bind(pool, NEURO_TORCH_RETURN_NULL, &returns) == NEURO_OK && returns == 1);

    void *block = nullptr;
    CHECK(thrown([&] { block = neuro_torch_alloc_0(1 << 20, 0, nullptr); }).empty() && block != nullptr);
    for (int i = 0; i < 3; i++) { // what is thrown is freed again
        std::string words = thrown([] { neuro_torch_alloc_0(100, 0, nullptr); });
        CHECK(has(words, "cuda:0: out of memory: asked for 100 B") && has(words, "limit 1048576 B"));
        CHECK(words == neuro_last_error());
    }
    CHECK(has(thrown([] { neuro_torch_alloc_0(100, 1, nullptr); }), "memory of cuda:1 was asked for"));
    CHECK(thrown([&] { neuro_torch_record_stream_0(&block, nullptr); }).empty()); // another library's: that sees to it
    CHECK(thrown([] { CHECK(neuro_torch_alloc_0(0, 0, nullptr) == nullptr); }).empty());
    CHECK(thrown([] { CHECK(neuro_torch_alloc_1(100, 0, nullptr) == nullptr); }).empty());

    // Frees are called where nothing may be thrown.
    CHECK(thrown([&] { neuro_torch_free_0(&block, 1, 0, nullptr); }).empty());
    CHECK(thrown([&] { neuro_torch_free_0(block, 1 << 20, 0, nullptr); }).empty());
    CHECK(neuro_torch_unbind(throws) == NEURO_OK && neuro_torch_unbind(returns) == NEURO_OK);
    CHECK(neuro_pool_release(pool) == NEURO_OK);
    std::printf("%s torch_throws\n", failures ? "FAILED" : "ok");
    return failures != 0;
}
