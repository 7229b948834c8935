"""A chapter's number is that of its file, in headings, figures, equations and commands alike.

Sphinx counts pages instead, and would number a chapter anew when one before it is added.
"""

import re

from docutils import nodes
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector


def from_files(assign):
    def assigned(self, env):
        updated = assign(self, env)
        for docname, numbers in env.toc_secnumbers.items():
            if file := re.match(r"book/(\d\d)-", docname):
                own = int(file[1])
                for anchor, number in numbers.items():
                    numbers[anchor] = number and (own, *number[1:])
                for node in (env.titles[docname], *env.tocs[docname].findall(nodes.reference)):
                    if node.get("secnumber"):
                        node["secnumber"] = [own, *node["secnumber"][1:]]
        return updated

    return assigned


def setup(app):
    Collector.assign_section_numbers = from_files(Collector.assign_section_numbers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
