"""What a head's own numbers offer to describers, counted on words that no test uses.

Known operations (`catalogue_scores`), classes of words that it maps to others and what it writes whatever it reads
(`class_scores`), and the same of its parts (`part_classes`). See docs/method.md, "Testing a description".

May import `maps_engine`, `agent.words`, `agent.results`, `agent.describers` and the rest of `agent.checks`.
"""
