"""``python -m training``: see training.start."""

from training.start import main

if __name__ == "__main__":
    main()
