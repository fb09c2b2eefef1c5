// The cache of functions that MLX compiles at run time.
#pragma once

#include <string>

namespace kernel_cache {

// A folder of that name that only this user and root can write to, in the user's cache folder or else in the temporary folder.
// Throws a runtime_error that says what to do if neither is safe.
std::string private_folder(const std::string &name);

// A folder that only this user and root can write to, for this processor, compiler and version of MLX. Damaged files have been
// removed, so that MLX compiles them again. Throws a runtime_error that says what to do if no folder is safe.
std::string folder(const std::string &compiler);

} // namespace kernel_cache
