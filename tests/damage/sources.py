"""Small clips and pictures of every container that can be made here, with a face in them.

Those that are made have 6 frames of 128 px and a tone; of real files, the first packets are taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from vidinv.types import Image
from vidinv.video import is_image_path, write_image
from vidinv.video.isolation import end_real_time_priority

RATE = 25
NUM_FRAMES, SIDE = 6, 128
# Name, FFmpeg's format (None: by name), video and sound encoder, options of the muxer.
KINDS: tuple[tuple[str, str | None, str, str | None, dict[str, str]], ...] = (
    ("h264.mp4", None, "libx264", "aac", {}),
    ("fragments.mp4", None, "libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    ("faststart.mp4", None, "libx264", "aac", {"movflags": "faststart"}),
    ("hevc.mp4", None, "libx265", None, {}),
    ("av1.mp4", None, "libsvtav1", None, {}),
    ("prores.mov", None, "prores_ks", "pcm_s16le", {}),
    ("h264.mkv", None, "libx264", "aac", {}),
    ("ffv1.mkv", None, "ffv1", "flac", {}),
    ("vp9.webm", None, "libvpx-vp9", "libopus", {}),
    ("mpeg4.avi", None, "mpeg4", "pcm_s16le", {}),
    ("mjpeg.avi", None, "mjpeg", None, {}),
    ("h264.ts", None, "libx264", "aac", {}),
    ("mpeg2.m2ts", "mpegts", "mpeg2video", "mp2", {}),
    ("mpeg1.mpg", None, "mpeg1video", "mp2", {}),
    ("mpeg2.vob", "vob", "mpeg2video", "mp2", {}),
    ("sorenson.flv", None, "flv", None, {}),
    ("wmv2.wmv", "asf", "wmv2", "wmav2", {}),
    ("h263p.3gp", "3gp", "mpeg4", "aac", {}),
    ("mpeg2.mxf", None, "mpeg2video", None, {}),
    ("raw.nut", None, "rawvideo", "pcm_s16le", {}),
    ("moving.gif", None, "gif", None, {}),
    ("elementary.m2v", "mpeg2video", "mpeg2video", None, {}),
)
_PIX_FMTS = {
    "prores_ks": "yuv422p10le",
    "ffv1": "yuv444p",
    "gif": "rgb8",
    "mjpeg": "yuvj420p",
}
PICTURES = ("a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.avif", "a.jfif")
# Of the data beside the repository: codecs, side data and layouts that are not made here.
REAL = (
    *("clips/grid_bbaf2n.mpg", "inputs/02_ts_clock_27000s.ts", "inputs/08_cover_art.mp4"),
    *("inputs/06c_fragmented_recording_crashed.mp4", "inputs/09_captions_eia608.mp4"),
    *("inputs/09_hdr10_mastering_cll.mp4", "inputs/10_alpha_vp9.webm"),
    *("inputs/11_iphone_mdta_keys.mov", "inputs/12_size_changes_mid_file.webm"),
    *("inputs/15_wmav2_in_mkv.mkv", "inputs/15_wmav2_to_mp4.wmv", "inputs/18_hlg_phone_hevc.mp4"),
    *("inputs/21_stereo_pcm_to_mp4.avi", "inputs/24_negative_times.mkv"),
    *("inputs/25_two_cameras_default_has_no_face.mp4", "inputs/11_photo_exif_gps_xmp.jpg"),
    *("inputs/16_phone.jfif", "inputs/18_gif_444.gif", "clips/sign_smallface.mkv"),
)
_REAL_PACKETS = 8


def make_sources(folder: Path, faces: Sequence[Image], *, shared: Path | None) -> list[Path]:
    """Write all that this FFmpeg and Pillow can write; the files, in a fixed order.

    Args:
        faces: pictures ``[SIDE, SIDE, 3]`` of the clip.
        shared: the data beside the repository, where it is there.
    """
    made = []
    for kind in KINDS:
        path = folder / kind[0]
        with contextlib.suppress(FFmpegError, ValueError):
            _write_clip(path, faces, *kind[1:])
            made.append(path)
        end_real_time_priority()  # that libsvtav1 took; what is started later would inherit it
    for name in PICTURES:
        if is_image_path(name):
            write_image(folder / name, faces[0], comment="a comment")
            made.append(folder / name)
    for name in REAL if shared is not None else ():
        source = Path(str(shared)) / name
        path = folder / source.name
        try:
            if is_image_path(path):
                raise ValueError("a picture has no packets")
            _shorten(source, path)
        except (FFmpegError, ValueError):  # or packets that its container does not take from us
            path.write_bytes(source.read_bytes())
        made.append(path)
    return made


def _write_clip(
    path: Path,
    faces: Sequence[Image],
    format_name: str | None,
    encoder: str,
    sound: str | None,
    options: dict[str, str],
) -> None:
    with av.open(str(path), "w", format=format_name, container_options=options) as output:
        stream: Any = output.add_stream(encoder, rate=RATE)
        stream.height, stream.width = faces[0].shape[:2]
        stream.pix_fmt = _PIX_FMTS.get(encoder, "yuv420p")
        tone: Any = output.add_stream(sound, rate=48000) if sound else None
        for number, face in enumerate(faces):
            frame = av.VideoFrame.from_ndarray(face, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone is not None:
            _add_tone(output, tone, seconds=len(faces) / RATE)


def _add_tone(output: Any, stream: Any, *, seconds: float) -> None:
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 48000)) / 48000)
    frame = av.AudioFrame.from_ndarray(
        np.stack([samples, samples]).astype(np.float32), format="fltp", layout="stereo"
    )
    frame.sample_rate, frame.pts = 48000, 0
    context = stream.codec_context
    context.open(strict=False)
    layout, size = context.layout or "stereo", context.frame_size or 1024
    resampler = av.AudioResampler(context.format, layout, 48000, size)
    for resampled in (*resampler.resample(frame), *resampler.resample(None)):
        output.mux(stream.encode(resampled))
    output.mux(stream.encode(None))


def _shorten(source: Path, path: Path) -> None:
    """The first pictures of a clip and what lies beside them, in its own container."""
    with av.open(str(source)) as input, av.open(str(path), "w") as output:
        streams = {
            stream.index: output.add_stream_from_template(stream, opaque=True)
            for stream in input.streams
            if stream.type in ("video", "audio", "subtitle")
        }
        left = dict.fromkeys(streams, _REAL_PACKETS)
        for packet in input.demux(*(input.streams[index] for index in streams)):
            index = packet.stream.index
            if packet.dts is not None and left[index]:
                left[index] -= 1
                packet.stream = streams[index]
                output.mux(packet)
