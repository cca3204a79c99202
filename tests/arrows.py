"""The rooms of a package, and the other rooms of it that each may import, the lowest first.

A room imports only what stands above it here. docs/architecture.md has the picture.
"""

MODULES = {"errors", "lazy"}  # of mergenet, not rooms: any of its rooms may import them

ARROWS: dict[str, dict[str, str]] = {
    "mergenet": {
        "errors": "",
        "lazy": "",
        "config": "errors lazy",
        "data": "config errors",
        "models": "config data errors",
        "tasks": "config data errors",
        "records": "config errors models",
        "learner": "config errors models tasks",
        "layers": "config errors learner models tasks",
        "transfer": "config errors layers learner models records tasks",
        "export": "config errors layers learner models records tasks",
        "training": "config errors layers learner models records tasks transfer",
        "cli": "config errors export layers learner models records tasks training transfer",
    },
    "sweeps": {
        "space": "",
        "config": "space",
        "trials": "config space",
        "samplers": "config space",
        "study": "config samplers space trials",
        "schedulers": "config study trials",
        "execution": "config space study trials",
        "tracking": "config trials",
        "planning": "config execution samplers schedulers space study tracking trials",
        "report": "config planning space trials",
        "driver": "config execution planning report schedulers space study tracking trials",
        "ablation": "config driver execution planning report space tracking trials",
        "cli": "ablation config driver execution planning report space tracking trials",
    },
}
