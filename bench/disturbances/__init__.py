"""Twelve disturbances of the field and the account of what a gateway lost in each: ``python -m bench.disturbances``.

Any gateway can be measured. It is a program that is started with the path of a JSON file and then

1. reads from it ``name`` (how it should call itself), ``directory`` (an empty folder of its own), ``ledger`` (a path), ``sources`` (a list of
   ``{"kind", "url", "signals": […], …}``) and ``options`` (what a case asks for, may be ignored),
2. prints ``up`` on a line of its own once it has a first value of every source that it can reach,
3. keeps what arrives, whatever happens to the line, until it reads the line ``stop`` on its standard input,
4. then writes the ledger, one JSON array or object a line, and ends with 0:

   * ``[signal, number, source time in ns, order]`` for each reading kept at the end; ``signal`` is the last element of its path; ``number``
     is the value, which is the sequence number that the peer counts; ``order`` grows in the order of arrival; the whole value and the whole
     name of the signal may follow (D10 asks for them);
   * ``{"gap": {"signal": name or null, "start": ns, "end": ns, "reason": text}}`` for each interval that it declares as missing;
   * ``{"event": "lost" or "back", "at": ns}``, ``{"arrived": [signal, number], "times": n}`` for what came more than once before repeats were
     removed, and ``{"facts": {…}}`` are optional.

``offered`` is never asked of the gateway: the peer, a program that we did not write the protocol of, appends what it offered to a file.
"""
