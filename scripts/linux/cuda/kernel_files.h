// Compiled kernels on disk, in a folder that only this user can write to.
#pragma once

#include <string>

#include "compiler.h"

namespace kernel_files {

// The file's name: a hash of everything that the code depends on.
std::string name(const compiler::Source &source, const std::string &kernel);

// False if the file is missing or damaged.
bool read(const std::string &name, const std::string &kernel, compiler::Kernel &compiled);

// Writes the file atomically. If that fails, the kernel is compiled again next time.
void write(const std::string &name, const std::string &kernel, const compiler::Kernel &compiled);

} // namespace kernel_files
