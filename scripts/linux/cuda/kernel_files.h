// Compiled kernels on disk, in a folder that only this user can write to.
#pragma once

#include <string>

#include "compiler.h"

namespace kernel_files {

// The file's name: of everything that the code depends on.
std::string name(const compiler::Source &source, const std::string &kernel);

// False if the file is not there or not whole.
bool read(const std::string &name, const std::string &kernel, compiler::Kernel &compiled);

// Appears whole. What cannot be kept is compiled again another time.
void write(const std::string &name, const std::string &kernel, const compiler::Kernel &compiled);

} // namespace kernel_files
