"""A checkpoint's files: in a folder the user gives, or on the model hub at the pinned revision, one by one."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipelines.encoder import EncoderSpec, LoadOptions
from store.schema import CounterstainError

# Of the file that says which shard of a checkpoint holds which weight, after the name the whole would have.
INDEX_SUFFIX = ".index.json"


@dataclass(frozen=True)
class Checkpoint:
    """The files of an encoder's checkpoint.

    Attributes
    ----------
    spec
        The encoder.
    folder
        Where they lie; ``None`` where they come from the hub.
    advice
        The folder a user would fill.
    """

    spec: EncoderSpec
    folder: Path | None
    advice: Path

    def __str__(self) -> str:
        return str(self.folder or self.spec.checkpoint)

    def find(self, *names: str) -> Path | None:
        """Return the first of some files that there is, downloading no other; ``None`` if there is none.

        Raises
        ------
        CounterstainError
            If the hub cannot be asked or does not hand it out; the message says what to do.
        """
        if self.folder is not None:
            paths = (self.folder / name for name in names)
            return next((path for path in paths if path.is_file()), None)
        cached = (self._cached(name) for name in names)
        return next(filter(None, cached), None) or next(filter(None, map(self._download, names)), None)

    def need(self, *names: str) -> Path:
        """Return the first of some files that there is, as `find`; raise `CounterstainError` if there is none."""
        path = self.find(*names)
        if path is None:
            whole = [name for name in names if not name.endswith(INDEX_SUFFIX)]
            raise CounterstainError(f"{self.spec.name}: {self} is no checkpoint of it: it needs {' or '.join(whole)}.")
        return path

    def sha256(self, path: Path) -> str:
        """Return a weight file's digest.

        Raises
        ------
        CounterstainError
            If the record declares another one, or declares those of other files only.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self.spec.sha256 and digest != self.spec.sha256.get(path.name):
            raise CounterstainError(
                f"{self.spec.name}: {path} is not the published file: its SHA-256 is {digest}, not "
                f"{self.spec.sha256.get(path.name, 'that of any file it is published in')}. "
                f"Download {' or '.join(self.spec.sha256)} from {self.spec.checkpoint}."
            )
        return digest

    def _cached(self, name: str) -> Path | None:
        """Return a file of a pinned revision that was downloaded before: the hub need not be asked."""
        from huggingface_hub import try_to_load_from_cache

        if self.spec.revision is None:
            return None
        path = try_to_load_from_cache(str(self.spec.checkpoint), name, revision=self.spec.revision)
        return Path(path) if isinstance(path, str) else None

    def _download(self, name: str) -> Path | None:
        from huggingface_hub import constants, errors, hf_hub_download

        spec = self.spec
        try:
            return Path(hf_hub_download(str(spec.checkpoint), name, revision=spec.revision))
        # HTTPError is the base of what the hub's HTTP client raises; it comes through bare where a proxy refuses.
        except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
            # The hub said that the revision has no such file; the other kind says that the hub was not asked.
            if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
                return None
            page = f"{constants.ENDPOINT}/{spec.checkpoint}"
            put = f"It is gated: accept its terms on {page} and set HF_TOKEN; or put" if spec.gated else "Put"
            raise CounterstainError(
                f"{spec.name}: {name} of {spec.checkpoint} cannot be had from the hub ({type(error).__name__}). {put} "
                f"the files of {page} into {self.advice}/ and set COUNTERSTAIN_CHECKPOINT_DIR={self.advice.parent}."
            ) from error


def open_checkpoint(spec: EncoderSpec, options: LoadOptions) -> Checkpoint:
    """Return an encoder's checkpoint: the local folder if there is one, else the hub's repository."""
    advice = (options.checkpoint_dir or Path("DIR")) / (spec.variant_of or spec.name)
    return Checkpoint(spec, options.local_checkpoint(spec), advice)
