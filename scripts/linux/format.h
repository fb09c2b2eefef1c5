// mlx-c uses std::format, which GCC has from version 13; before that, {fmt} is the same interface.
#if defined(__cplusplus) && __has_include(<format>)
#include <format>
#elif defined(__cplusplus)
#define FMT_HEADER_ONLY
#include <fmt/format.h>
namespace std {
using fmt::format;
}
#endif
