"""The report of a sweep: one HTML file that needs no network, and the same as markdown; from its records alone.

evidence.py       everything that is known of a folder, read once
confirmation.py   the paired differences on fresh seeds
verdict.py        what they show, in words; `mergenet sweep` says it with the same ones
answer.py         the first screen as plain data: best, gain, what mattered, is it the source, what to run next
next_steps.py     the rules behind the last of these
trials.py         the trials as the page's table has them; links to the files of their runs
figures.py        the plotly figures, each with one theme's colours left open
page.py           report.html, from templates/; markdown.py: report.md
"""
