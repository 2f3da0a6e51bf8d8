// The simplest image files: PPM (P6, RGB) in, PGM (P5, gray) out, 8 bits. OpenCV or libpng take their place at will.
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace pnm {

struct Image {
    size_t width, height;
    std::vector<uint8_t> pixels;  // height x width x 3, RGB
};

inline size_t number(std::istream& file) {
    size_t value = 0;
    while ((file >> std::ws).peek() == '#') file.ignore(1 << 20, '\n');
    file >> value;
    return value;
}

inline Image read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    const bool magic = file.get() == 'P' && file.get() == '6';
    Image image{number(file), number(file), {}};
    const size_t largest = number(file), pixels = image.width * image.height, limit = size_t{1} << 28;
    file.get();  // one blank before the pixels
    if (!magic || !file || largest != 255 || !pixels || image.width > limit || image.height > limit || pixels > limit)
        throw std::runtime_error(path + " is no 8-bit color PPM (P6)");
    image.pixels.resize(pixels * 3);
    if (!file.read(reinterpret_cast<char*>(image.pixels.data()), image.pixels.size()))
        throw std::runtime_error(path + " ends early");
    return image;
}

inline void write(const std::string& path, size_t width, size_t height, const uint8_t* values) {
    std::ofstream file(path, std::ios::binary);
    file << "P5\n" << width << ' ' << height << "\n255\n";
    file.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(width * height));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace pnm
