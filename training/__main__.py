"""``python -m training``: see training.run."""

from training.run import main

if __name__ == "__main__":
    main()
