// Segment an image with an exported model, on OpenVINO's C++ API:
//   segment_openvino MODEL.xml IMAGE.ppm MASK.pgm
// The model is an export with `--format openvino --preprocess_in_graph`: it takes 8-bit BGR images of any size and
// returns class ids, so nothing but reading and writing is left to do here.
#include <exception>
#include <iostream>
#include <utility>

#include <openvino/openvino.hpp>

#include "pnm.hpp"

int main(int argc, char** argv) try {
    if (argc != 4) throw std::invalid_argument("usage: segment_openvino MODEL.xml IMAGE.ppm MASK.pgm");
    pnm::Image image = pnm::read(argv[2]);
    for (size_t i = 0; i < image.pixels.size(); i += 3) std::swap(image.pixels[i], image.pixels[i + 2]);  // BGR

    ov::Core core;
    // Else OpenVINO computes in bfloat16 where the processor can, which moves the borders in a mask.
    ov::CompiledModel model = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    const ov::Output<const ov::Node> input = model.input(), output = model.output(0);
    if (input.get_element_type() != ov::element::u8 || output.get_element_type() != ov::element::u8)
        throw std::invalid_argument(std::string(argv[1]) + " does not take images and return 8-bit class ids: export "
                                    "it with --format openvino --preprocess_in_graph");

    ov::InferRequest request = model.create_infer_request();
    request.set_input_tensor(ov::Tensor(ov::element::u8, {1, image.height, image.width, 3}, image.pixels.data()));
    request.infer();
    pnm::write(argv[3], image.width, image.height, request.get_output_tensor(0).data<uint8_t>());
    return 0;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 2;
}
