// Where images come from: a file, a video's frames, the camera's.

const LONGEST_SIDE = 1280; // pixels of a frame that is sent
const JPEG_QUALITY = 0.92;

/** The picture of a file as the browser shows it, turned upright; null for formats that only the server reads. */
async function pictureOf(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}

/** A playing video element without a place on the page. */
async function playing(configure) {
  const video = document.createElement("video");
  video.muted = true;
  video.loop = true;
  video.playsInline = true;
  configure(video);
  await video.play();
  return video;
}

async function videoOf(file) {
  const address = URL.createObjectURL(file);
  try {
    const video = await playing((element) => { element.src = address; });
    return { video, end: () => { video.pause(); URL.revokeObjectURL(address); } };
  } catch {
    URL.revokeObjectURL(address);
    throw new Error(`this browser cannot play ${file.name}: convert it to MP4 (H.264) or WebM`);
  }
}

async function cameraOf() {
  if (!navigator.mediaDevices) throw new Error("browsers open the camera on https pages and on localhost only");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: LONGEST_SIDE }, facingMode: "environment" } });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "the browser was not allowed to open the camera" : "there is no camera, or another program uses it");
  }
  const video = await playing((element) => { element.srcObject = stream; });
  return { video, end: () => stream.getTracks().forEach((track) => track.stop()) };
}

/** The next frame that is to be shown; at once where the browser cannot tell. */
function nextFrame(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else setTimeout(resolve, 0);
  });
}

/** The current frame: a canvas, and a JPEG of it. */
async function grabFrame(video) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY); });
  return { canvas, blob };
}
