"""Which pixel format an output has: the source's where players show it."""

from __future__ import annotations

from vidinv.video.codecs import ENCODERS, KEEP_PIXELS, pixel_formats
from vidinv.video.info import VideoInfo


class PixelChoice:
    """The formats of an encoder that come nearest to a source.

    Few players, and no hardware, show H.264 or VP9 with more chroma than 4:2:0, or H.264 of more
    than 8 bits; whoever plays a source of that very kind plays the output too.

    Attributes:
        nearest: depth and chroma of the source, or the best below; None: nothing fits.
        shown: the same within what players show.
    """

    def __init__(self, info: VideoInfo, encoder: str) -> None:
        self._info, self._encoder = info, encoder
        keeps = encoder in KEEP_PIXELS or info.codec in ("", ENCODERS[encoder].codec)
        # 4:2:0 H.264 and H.265 cannot crop to an odd size, so an odd size takes 4:4:4 there: the
        # display size stays exact at the price of hardware players, and the user is told.
        is_odd = bool(info.width % 2 or info.height % 2)
        self._odd = is_odd and not encoder.startswith("libvpx")
        chroma = next((c for c in ("444", "422") if c in info.pix_fmt), "420")
        if info.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr")):
            chroma = "444"
        deep = info.bit_depth > 8
        self.nearest = self._find(chroma, deep=deep)
        self.shown = self.nearest
        if not keeps:
            self.shown = self._find("420", deep=deep and encoder != "libx264")

    def _find(self, chroma: str, *, deep: bool) -> str | None:
        formats = pixel_formats(self._encoder)
        wanted = ["444"] if self._odd else [chroma, "420", "422", "444"]
        kinds = ("yuva", "yuv") if self._info.has_alpha else ("yuv",)
        names = [
            f"{kind}{layout}{depth}"
            for kind in kinds
            for depth in (("p10le", "p12le", "p") if deep else ("p", "p10le"))
            for layout in wanted
        ]
        return next((name for name in names if name in formats), None)

    def notes(self) -> list[str]:
        """What a person should know of ``shown``."""
        info, name, notes = self._info, str(self.shown), []
        if self._odd and "444" not in info.pix_fmt:
            notes.append(
                f"{info.width}x{info.height} is an odd size: written as 4:4:4, "
                "which some hardware players do not show"
            )
        if name != self.nearest:
            notes.append(
                f"written as {name}, which players show: the source has {info.pix_fmt}; "
                f"--pix-fmt {self.nearest} keeps more of it"
            )
        elif info.bit_depth > 8 and not name.endswith("le"):
            notes.append(
                f"encoder {self._encoder} writes 8 bits: the source's {info.bit_depth} bits "
                "were reduced"
            )
        return notes
