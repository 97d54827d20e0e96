"""What is asked of the recorder about jobs, as the facts of a CHANGE, and what CHANGED answers.

{"verb": "enqueue_job", "wanted": a NewJob's fields, "single_flight"}                  {"job": a Job's fields}
{"verb": "lease_job", "owner", "seconds", "kinds": [...]}                              {"job": those, or null}
{"verb": "renew_job", "job", "owner", "seconds", "progress": its fields or null}       {"renewal": [held, cancel asked]}
{"verb": "note_job", "job", "owner", "note": [what, details]}                          {"is_held"}
{"verb": "give_job_back", "job", "owner"}                                               {"is_held"}
{"verb": "finish_job", "job", "owner", "state", "result", "error"}                     {"is_held"}
{"verb": "cancel_job", "job", "actor"}                                                 {"job": a Job's fields}
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from service.errors import BrokenContract
from service.store.jobs import JobNote, Jobs, NewJob, Progress

Facts = Mapping[str, Any]


def apply_to_jobs(jobs: Jobs, facts: Facts) -> dict[str, Any]:
    """Do what a CHANGE says; what CHANGED answers. Raises what the verb raises, or BrokenContract."""
    match facts:
        case {"verb": "enqueue_job", "wanted": wanted, "single_flight": single_flight}:
            return {"job": asdict(jobs.enqueue(NewJob(**wanted), single_flight=single_flight))}
        case {"verb": "lease_job", "owner": owner, "seconds": seconds, "kinds": kinds}:
            job = jobs.lease(owner, seconds=seconds, kinds=kinds)
            return {"job": None if job is None else asdict(job)}
        case {"verb": "renew_job", "job": job_id, "owner": owner, "seconds": seconds, "progress": told}:
            progress = None if told is None else Progress(**told)
            return {"renewal": list(jobs.renew(job_id, owner, seconds=seconds, progress=progress))}
        case {"verb": "note_job", "job": job_id, "owner": owner, "note": note}:
            return {"is_held": jobs.note(job_id, owner, JobNote._make(note))}
        case {"verb": "give_job_back", "job": job_id, "owner": owner}:
            return {"is_held": jobs.give_back(job_id, owner)}
        case {"verb": "finish_job", "job": job_id, "owner": owner, "state": state, "result": result, "error": error}:
            return {"is_held": jobs.finish(job_id, owner, state, result, error)}
        case {"verb": "cancel_job", "job": job_id, "actor": actor}:
            return {"job": asdict(jobs.ask_cancel(job_id, actor))}
        case _:
            raise BrokenContract("CHANGE", expected="a verb and its facts", got=facts.get("verb"))
