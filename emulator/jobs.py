"""Keeps jobs in folders, and runs at most so many at once, the others in the order of their creation."""

import fcntl
import json
import logging
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.children import end_job
from emulator.errors import ApiError
from emulator.records import CANCELLED, JOB_FILE, RECORD_FILE, JobRecord, write_json
from emulator.runner import finish, start_process

_CACHE, _CANCEL, _NEW, _DELETED = ".cache", "cancel", ".new-", ".deleted-"


@dataclass
class Job:
    """A job: its folder, the PipelineJob as it was accepted, and how far it is.

    Attributes:
        folder: The job's folder.
        document: The PipelineJob.
        record: The last record that was read.
        process: Its process; None while it waits and after it has ended.
        cancelling: Whether it has been cancelled and has not yet ended.
    """

    folder: Path
    document: dict[str, Any]
    record: JobRecord
    process: subprocess.Popen[bytes] | None = None
    cancelling: bool = False

    @property
    def state(self) -> str:
        """The job's state, which is CANCELLING before its process has ended."""
        return "CANCELLING" if self.cancelling and not self.record.finished else self.record.state


class JobStore:
    """The jobs in a folder, which one process at a time may serve.

    Job ids are unique in the whole folder, whatever project and location a job was created in.

    Args:
        folder: Where the jobs' folders are; it is made when it is missing.
        max_running: How many jobs run at once; 0 keeps them all waiting.

    Raises:
        RuntimeError: Another process serves this folder.
    """

    def __init__(self, folder: Path, max_running: int = 2):
        self.folder, self.max_running = folder.resolve(), max_running
        self.folder.mkdir(parents=True, exist_ok=True)
        self._guard = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._guard.close()
            raise RuntimeError(f"Another emulator serves {self.folder}: stop it, or name another folder.") from None
        self._lock = threading.RLock()
        self._process_gone = threading.Condition(self._lock)
        self._stopping = False
        self._jobs: dict[str, Job] = {}
        self._watchers: list[threading.Thread] = []

    def start(self) -> None:
        """Reads the jobs, ends what an earlier service left running, and goes on with the unfinished jobs."""
        for leftover in [*self.folder.glob(f"{_NEW}*"), *self.folder.glob(f"{_DELETED}*")]:
            shutil.rmtree(leftover, ignore_errors=True)
        for record_file in sorted(self.folder.glob(f"[a-z]*/{RECORD_FILE}")):
            job = _load(record_file.parent)
            if job is None:
                continue
            if not job.record.finished:
                end_job(job.folder)
                job.record = JobRecord.load(job.folder)
            if (job.folder / _CANCEL).exists() and not job.record.finished:
                _close_cancelled(job)
            self._jobs[job.record.id] = job
        with self._lock:
            self._schedule()

    def stop(self) -> None:
        """Ends every process; the jobs go on when the folder is served again."""
        with self._lock:
            self._stopping = True
            running = [job for job in self._jobs.values() if job.process]
            watchers = list(self._watchers)
        enders = [threading.Thread(target=end_job, args=(job.folder,)) for job in running]
        for thread in enders:
            thread.start()
        for thread in [*enders, *watchers]:
            thread.join()
        self._guard.close()

    def create(self, job_id: str, name: str, document: dict[str, Any]) -> Job:
        """Keeps a job and runs it when its turn comes.

        Args:
            job_id: Its id.
            name: Its resource name.
            document: The checked PipelineJob.

        Raises:
            ApiError: ALREADY_EXISTS.
        """
        with self._lock:
            if job_id in self._jobs:
                raise ApiError("ALREADY_EXISTS", f"The PipelineJob {name} already exists.")
            folder = Path(tempfile.mkdtemp(prefix=_NEW, dir=self.folder))
            folder.chmod(0o755)
            document, record = {**document, "name": name}, JobRecord(name)
            write_json(folder / JOB_FILE, document)
            record.save(folder)
            folder = folder.rename(self.folder / job_id)
            job = self._jobs[job_id] = Job(folder, document, record)
            self._schedule()
            return job

    def get(self, job_id: str) -> Job:
        """Returns a job as it is now.

        Raises:
            ApiError: NOT_FOUND.
        """
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                raise ApiError("NOT_FOUND", f"The PipelineJob {job_id} does not exist.")
            if job.process:
                job.record = JobRecord.load(job.folder)
            return job

    def jobs(self) -> list[Job]:
        """Returns all jobs as they are now."""
        with self._lock:
            return [self.get(job_id) for job_id in self._jobs]

    def cancel(self, job_id: str) -> None:
        """Starts to cancel a job; nothing happens to one that has ended."""
        with self._lock:
            job = self.get(job_id)
            if job.record.finished or job.cancelling:
                return
            # The file says so to the next service, should this one be killed now.
            (job.folder / _CANCEL).touch()
            job.cancelling = True
            if job.process:
                threading.Thread(target=end_job, args=(job.folder,)).start()
            else:
                _close_cancelled(job)

    def delete(self, job_id: str) -> None:
        """Deletes a job with its folder.

        Raises:
            ApiError: NOT_FOUND, or FAILED_PRECONDITION for a job that has not ended.
        """
        with self._lock:
            job = self.get(job_id)
            if not job.record.finished:
                raise ApiError("FAILED_PRECONDITION", f"The PipelineJob {job_id} is {job.state}: cancel it first.")
            # The record says how the job ended a moment before its process has gone.
            self._process_gone.wait_for(lambda: job.process is None)
            doomed = job.folder.rename(self.folder / f"{_DELETED}{job_id}")
            del self._jobs[job_id]
        shutil.rmtree(doomed)

    def _schedule(self) -> None:
        """Starts waiting jobs while there is room."""
        waiting = [job for job in self._jobs.values() if not job.process and not job.record.finished]
        room = self.max_running - sum(1 for job in self._jobs.values() if job.process)
        if self._stopping:
            return
        for job in sorted(waiting, key=lambda job: job.record.created)[: max(room, 0)]:
            job.process = start_process(job.folder, self.folder / _CACHE)
            self._watchers = [thread for thread in self._watchers if thread.is_alive()]
            self._watchers.append(threading.Thread(target=self._watch, args=(job, job.process)))
            self._watchers[-1].start()

    def _watch(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        """Waits for a job's process, and closes the job."""
        code = process.wait()
        with self._lock:
            stopping, cancelling = self._stopping, job.cancelling
        if cancelling or not stopping:
            # A step may have left a process that outlives it.
            end_job(job.folder)
        with self._lock:
            job.process = None
            self._process_gone.notify_all()
            job.record = JobRecord.load(job.folder)
            if job.cancelling and not job.record.finished:
                _close_cancelled(job)
            elif not stopping:
                job.record = finish(job.folder, code)
            self._schedule()


def _load(folder: Path) -> Job | None:
    try:
        return Job(folder, json.loads((folder / JOB_FILE).read_text()), JobRecord.load(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        logging.warning("%s is not the folder of a job, and is left alone: %r", folder, error)
        return None


def _close_cancelled(job: Job) -> None:
    job.record.close("CANCELLED", CANCELLED, "The job was cancelled.")
    job.record.save(job.folder)
