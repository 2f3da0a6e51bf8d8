// Segment an image with an exported model, on ONNX Runtime's C++ API:
//   segment_onnxruntime MODEL.onnx IMAGE.ppm MASK.pgm
// The model is an export with `--format onnx --preprocess_in_graph`: it takes 8-bit BGR images of any size and returns
// class ids, so nothing but reading and writing is left to do here.
#include <array>
#include <exception>
#include <iostream>
#include <utility>

#include <onnxruntime_cxx_api.h>

#include "pnm.hpp"

static bool is_8_bit(const Ort::TypeInfo& type) {
    return type.GetTensorTypeAndShapeInfo().GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
}

int main(int argc, char** argv) try {
    if (argc != 4) throw std::invalid_argument("usage: segment_onnxruntime MODEL.onnx IMAGE.ppm MASK.pgm");
    pnm::Image image = pnm::read(argv[2]);
    for (size_t i = 0; i < image.pixels.size(); i += 3) std::swap(image.pixels[i], image.pixels[i + 2]);  // BGR

    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "segment");
    Ort::Session session(environment, argv[1], Ort::SessionOptions());
    if (!is_8_bit(session.GetInputTypeInfo(0)) || !is_8_bit(session.GetOutputTypeInfo(0)))
        throw std::invalid_argument(std::string(argv[1]) + " does not take images and return 8-bit class ids: export "
                                    "it with --format onnx --preprocess_in_graph");

    Ort::AllocatorWithDefaultOptions allocator;
    const Ort::AllocatedStringPtr input_name = session.GetInputNameAllocated(0, allocator);
    const Ort::AllocatedStringPtr output_name = session.GetOutputNameAllocated(0, allocator);
    const char *inputs[] = {input_name.get()}, *outputs[] = {output_name.get()};
    const std::array<int64_t, 4> shape{1, int64_t(image.height), int64_t(image.width), 3};
    const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value input = Ort::Value::CreateTensor<uint8_t>(memory, image.pixels.data(), image.pixels.size(),
                                                               shape.data(), shape.size());
    const auto results = session.Run(Ort::RunOptions(), inputs, &input, 1, outputs, 1);
    pnm::write(argv[3], image.width, image.height, results[0].GetTensorData<uint8_t>());
    return 0;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 2;
}
