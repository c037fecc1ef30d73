"""Model packs: what training made, for runs to use."""

from vidinv.packs.format import PackFiles, write_pack
from vidinv.packs.pack import DEFAULT_PACK, Pack, available_packs, load_pack

__all__ = ["DEFAULT_PACK", "Pack", "PackFiles", "available_packs", "load_pack", "write_pack"]
