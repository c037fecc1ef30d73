"""Faces in frames: detect, track, align, crop, mask, recognise. Knows no video files, no GAN."""

from vidinv.faces.align import (
    ALIGNMENTS,
    FFHQ,
    TIGHT,
    Alignment,
    crop_scale_of,
    named_alignment,
)
from vidinv.faces.analysis import analyse
from vidinv.faces.backends import BACKENDS, DEFAULT_LANDMARKS, check_landmarks, find_backend
from vidinv.faces.confidence import faded_notes, track_confidence
from vidinv.faces.crops import extract_crop
from vidinv.faces.dlib_backend import dlib_backend
from vidinv.faces.mask import FaceRegion, face_mask
from vidinv.faces.persons import group_persons
from vidinv.faces.protocols import Backend, Detection, Detector, Embedder, LandmarkPredictor
from vidinv.faces.search import FoundFace, find_faces
from vidinv.faces.select import (
    check_face,
    embed_reference,
    face_numbers,
    no_face_choice,
    numbered,
    select_tracks,
)
from vidinv.faces.smooth import Smoothing
from vidinv.faces.track import TrackingOptions
from vidinv.faces.whole import whole_alignment, whole_tracks

__all__ = [
    "ALIGNMENTS",
    "BACKENDS",
    "DEFAULT_LANDMARKS",
    "FFHQ",
    "TIGHT",
    "Alignment",
    "Backend",
    "Detection",
    "Detector",
    "Embedder",
    "FaceRegion",
    "FoundFace",
    "LandmarkPredictor",
    "Smoothing",
    "TrackingOptions",
    "analyse",
    "check_face",
    "check_landmarks",
    "crop_scale_of",
    "dlib_backend",
    "embed_reference",
    "extract_crop",
    "face_mask",
    "face_numbers",
    "faded_notes",
    "find_backend",
    "find_faces",
    "group_persons",
    "named_alignment",
    "no_face_choice",
    "numbered",
    "select_tracks",
    "track_confidence",
    "whole_alignment",
    "whole_tracks",
]
