"""Causes and fixes of the errors that users see most, for docs/errors.md; `scripts/write_errors.py` writes it.

Each row is tied to its messages by words of theirs. A test fails when no message has them any more.
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """Words that the messages have, with {placeholders} as scripts/write_errors.py names them; cause; what to do."""

    words: str
    cause: str
    fix: str


CAUSES: dict[str, tuple[Cause, ...]] = {
    "Images, labels and lists": (
        Cause(
            "does not exist: correct the path, the list, or dataset_root",
            "The list names a file that is not at that place: names are relative to `dataset_root`.",
            "Compare the path in the message with the files; set `dataset_root`, or make the lists again with "
            "`ppliteseg data prepare`.",
        ),
        Cause(
            "cannot be decoded: it is damaged",
            "The file was cut short by a copy or download, is a web page under an image's name, or is of a format that "
            "OpenCV and Pillow do not read.",
            "Open it with a viewer; copy it again or remove its line. `ppliteseg data check --full` finds all of them.",
        ),
        Cause(
            "ends too early: the remaining pixels are missing",
            "The copy or download of the image stopped before its end.",
            "Copy it again. `ppliteseg data check --full` finds all of them before a training.",
        ),
        Cause(
            "holds the value{...} {shown}",
            "The mask holds values that are no class ids: label ids in place of train ids, 0 and 255 for two classes, "
            "or values that a resize or JPEG made.",
            "`ppliteseg data prepare folder --remap FROM=TO`, or set `num_classes`; `ppliteseg data stats` shows which "
            "values there are.",
        ),
        Cause(
            "a label is one channel of class ids",
            "The masks hold colors, not ids.",
            "`ppliteseg data prepare folder --colors FILE` turns colors into ids.",
        ),
        Cause(
            "pixels, but its image {image_path} is",
            "Image and label were resized apart, or the list pairs the wrong files.",
            "Resize the label to the image with nearest neighbor, or correct the line of the list.",
        ),
        Cause(
            "names are relative to {...}",
            "A line of the list names a file that is not below the list's folder.",
            "Write paths relative to the folder in the message, or absolute ones.",
        ),
        Cause(
            "fewer than one batch of {batch_size}",
            "Incomplete batches are dropped in training, so that there would be none.",
            "A smaller `--batch_size`, or more images.",
        ),
        Cause(
            "a worker process was killed (out of memory?)",
            "The system's out-of-memory killer, or an administrator, ended a process.",
            "A smaller `--num_workers`; `dmesg` tells whether memory ran out.",
        ),
        Cause(
            "the data: {...} of {...} pairs are not as they were cached",
            "Images or labels changed after `ppliteseg data cache`, or the configuration names other ones.",
            "Run `ppliteseg data cache` again: it decodes only what has changed.",
        ),
    ),
    "Configuration and flags": (
        Cause(
            "unknown key.",
            "A key is spelled otherwise, or is at another level of the file.",
            "Take the suggested key; `ppliteseg configs keys` lists all of them.",
        ),
        Cause(
            "takes no such argument",
            "The component has no argument of that name.",
            "Take the suggested one; `ppliteseg configs keys TYPE` lists them.",
        ),
        Cause(
            "there is no {word} '{name}'",
            "`type` names a class that neither this package nor PaddleSeg has registered.",
            "Check the spelling; register your own class with `registry.add` before the run.",
        ),
        Cause(
            "the environment variable {name} is not set",
            "The configuration takes a path from a variable.",
            "`export NAME=/path/to/data`, or write the path into the file.",
        ),
        Cause(
            "no valid YAML",
            "A tab, a missing blank after a colon, or a bracket that is not closed.",
            "Correct the line that the message names.",
        ),
        Cause(
            "--opts wants key=value",
            "A value after `--opts` has no equals sign, or a blank beside it.",
            "`--opts batch_size=2 train_dataset.dataset_root=/data/camvid`.",
        ),
        Cause(
            "unknown argument '{...}'",
            "The command has no flag of that name.",
            "`ppliteseg COMMAND --help` lists its flags.",
        ),
    ),
    "Training and resuming": (
        Cause(
            "so the weights are lost",
            "The learning rate is too high for the batch, a label or image is damaged, or fp16 overflowed.",
            "Resume from the checkpoint that the message names with a lower learning rate; run `ppliteseg data check`.",
        ),
        Cause(
            "so it is not complete",
            "A checkpoint was copied in part, or changed since: sizes and hashes are those of its checkpoint.json no "
            "longer.",
            "`--resume_model auto` takes the newest complete one.",
        ),
        Cause(
            "not a checkpoint folder named iter_N",
            "`--resume_model` names another folder, or a file.",
            "Give `SAVE_DIR/iter_N`, or `auto`; `--model_path` takes weights alone.",
        ),
        Cause(
            "it belongs to another configuration",
            "The model, the number of classes or the backbone differs from those of the checkpoint.",
            "Resume with the configuration in the checkpoint's `SAVE_DIR/config.yml`.",
        ),
        Cause(
            "is in use by another run",
            "Two runs would write into one folder.",
            "Another `--save_dir`, or wait for the first one's end.",
        ),
        Cause(
            "nothing is left to train. Give a larger --iters",
            "The checkpoint is of the last iteration already.",
            "Raise `--iters`.",
        ),
        Cause(
            "the installed Paddle {__version__} was built without it",
            "The CPU build of Paddle is installed.",
            "`--device cpu`, or install `paddlepaddle-gpu` for the CUDA version of the driver.",
        ),
        Cause(
            "rank {number} {cause}; its log is",
            "One process of a distributed run ended; the others were ended with it.",
            "The end of its log says why. Resume from the checkpoint that the message names.",
        ),
        Cause(
            "has another training loop than this package knows",
            "The installed PaddleSeg is another version than the supported ones.",
            "Install the version in the message.",
        ),
    ),
    "Weights and downloads": (
        Cause(
            "does not fit the model",
            "The weights are of another size of the network or of another number of classes.",
            "The configuration that the weights were trained with; `ppliteseg weights show FILE` tells what they are.",
        ),
        Cause(
            "has none of the model's arrays",
            "The file is of another network, or of another framework's names that are not known here.",
            "`ppliteseg weights show FILE` lists its arrays.",
        ),
        Cause(
            "which arrays do not need; it was not read, as it may run commands",
            "The pickle in the file asks for more than arrays. A checkpoint that stores a whole model or an optimizer "
            "does so, and so does an attack.",
            "Save the `state_dict` alone, or as .safetensors.",
        ),
        Cause(
            "it may be cut short or of another kind",
            "The download stopped, or the extension is not that of the content.",
            "Get the file again; add `#sha256=...` to an address to have it verified.",
        ),
        Cause(
            "cannot be downloaded: {reason}",
            "No network, a proxy, or an address that no longer exists.",
            "Download it with a browser and give the file's path; see docs/weights.md for mirrors.",
        ),
    ),
    "Export": (
        Cause(
            "cannot write {folder}: {strerror}",
            "The disk is full, read-only, broken, or the folder belongs to another user.",
            "Make room, or give another `--save_dir`. An earlier export there is unchanged.",
        ),
        Cause(
            "is not empty and no export, so it is not replaced",
            "An export replaces its whole folder, and this one holds something else.",
            "A folder of its own for each export.",
        ),
        Cause(
            "was changed after the export, so it is not replaced",
            "A file of the earlier export is no longer the one that was written.",
            "Move the folder to keep it, or add `--overwrite`.",
        ),
        Cause(
            "exporting to {wanting} needs {package}",
            "The packages of deployment are not installed.",
            "The command in the message.",
        ),
        Cause(
            "which ONNX cannot express at an open size",
            "Adaptive pooling needs a fixed input size in ONNX.",
            "`--input_shape 1 3 H W`.",
        ),
        Cause(
            "the exported model differs from the trained one",
            "A converter or runtime computes something else than Paddle does.",
            "Try another `--format` or version of the runtime; report it with the output of `ppliteseg doctor`.",
        ),
    ),
    "Prediction": (
        Cause(
            "was not written by an earlier run, or was changed since",
            "Files of yours are where results would go: ground truth in `mask/`, a mask that was corrected by hand, or "
            "results of a version without `ppliteseg_files.jsonl`.",
            "Another `--save_dir`; `--overwrite` if they are to go.",
        ),
        Cause(
            "where results go; give another --save_dir",
            "`--image_path` names a folder that the run would write into.",
            "A `--save_dir` apart from the images.",
        ),
        Cause(
            "so it is no export; give the folder that 'ppliteseg export' wrote",
            "`--model_dir` names a training's folder, or a folder above the export.",
            "The folder with `deploy.yaml`.",
        ),
        Cause(
            "which Paddle {writer} wrote",
            "The runtime cannot read or run the graph; usually another version of Paddle wrote it.",
            "Install that version, or export again with the installed one.",
        ),
        Cause(
            "needs probabilities, but the model in {folder} returns class ids only",
            "Confidences and `--unknown_below` need scores, and argmax is part of the graph.",
            "`ppliteseg export --output_op softmax`.",
        ),
        Cause(
            "cannot be opened: it is damaged, no video",
            "The file is cut off, or of a codec that this OpenCV does not decode.",
            "Play it; convert it with `ffmpeg -i IN -c:v libx264 OUT.mp4`.",
        ),
    ),
    "Installation": (
        Cause(
            "is not installed. Install it with",
            "A package that the command needs is missing.",
            "The command in the message.",
        ),
        Cause(
            "a package cannot be imported",
            "A package is installed and broken: another version of NumPy, a missing system library, a mixed "
            "environment.",
            "`ppliteseg doctor` names it and the fix; a new virtual environment is often the shortest way.",
        ),
    ),
}
