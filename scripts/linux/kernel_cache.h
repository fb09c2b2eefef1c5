// Where the functions that MLX compiles while the program runs are kept.
#pragma once

#include <string>

namespace kernel_cache {

// A folder of that name that only this user and root can write to, in the user's cache or else in the temporary folder. Throws
// a runtime_error that says what to do where none is safe.
std::string private_folder(const std::string &name);

// A folder that only this user and root can write to, of this processor, compiler and version of MLX. What is damaged in it
// has been removed, so that MLX makes it again. Throws a runtime_error that says what to do where no folder is safe.
std::string folder(const std::string &compiler);

} // namespace kernel_cache
