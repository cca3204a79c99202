# What people run most. In an environment with: pip install -e ".[dev,docs]"
.PHONY: test lint docs quickstart coverage

test:  ## the fast tests, in two processes
	pytest -n 3 --dist loadfile

lint:  ## linter, format and types
	ruff check .
	ruff format --check .
	mypy

docs:  ## docs/ as a site in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

quickstart:  ## a first sweep, two minutes on two CPU cores
	mergenet sweep run quickstart

coverage:  ## the share of lines that the fast tests run in their own processes; on Python 3.11 half as much CPU time again
	pytest -n 3 --dist loadfile --cov --cov-report=term
