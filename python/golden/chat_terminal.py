"""`ondine chat` as somebody at a terminal meets it: keys go in through a pseudo-terminal, what it shows comes out.

    chat_terminal.py MODEL --ondine BIN

Any model that talks will do; answers are cut to a few tokens. Each case begins a conversation of its own.
"""

import argparse
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time

UP, ALT_ENTER, CTRL_A, CTRL_C, CTRL_D, TAB, ENTER = "\x1b[A", "\x1b\r", "\x01", "\x03", "\x04", "\t", "\r"
PATIENCE = 60


class Conversation:
    def __init__(self, options, *words):
        master, slave = pty.openpty()
        command = [options.ondine, "chat", options.model, "--temperature", "0", *words]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"}, start_new_session=True)
        os.close(slave)
        self.master, self.shown = master, ""

    def until(self, text, count=1):
        """Reads until `text` has been shown so many more times; yields all that was shown meanwhile."""
        start, end = len(self.shown), time.monotonic() + PATIENCE
        while self.shown[start:].count(text) < count:
            if time.monotonic() > end or not self.read():
                raise AssertionError(f"{text!r} was not shown, but {self.shown[start:]!r}")
        return self.shown[start:]

    def read(self):
        ready, _, _ = select.select([self.master], [], [], 0.2)
        if ready:
            try:
                piece = os.read(self.master, 4096)
            except OSError:
                return False
            self.shown += piece.decode(errors="replace")
            return bool(piece)
        return self.process.poll() is None

    def type(self, *keys):
        for key in keys:
            os.write(self.master, key.encode())
            time.sleep(0.15)

    def leaves(self):
        while self.read():
            pass
        code = self.process.wait(PATIENCE)
        assert code == 0, f"exit code {code}"


def answered(talk):
    """Waits for the end of an answer, which says how much of the context is used."""
    return talk.until(" used]")


def texts_come_back(options, place):
    """the arrow up brings back what was written, and Ctrl-D leaves"""
    talk = Conversation(options, "--max-tokens", "3")
    talk.until("> ")
    talk.type("first question", ENTER)
    answered(talk)
    talk.type(UP)
    talk.until("first question")
    talk.type(ENTER)
    answered(talk)
    talk.type(CTRL_D)
    talk.leaves()


def lines_are_edited(options, place):
    """a line is changed at its beginning, Alt-Enter begins another one, and the command that shows the text says so"""
    talk = Conversation(options, "--max-tokens", "3")
    talk.until("> ")
    talk.type("ystem", CTRL_A, "/s", ENTER)
    talk.until("> ")
    talk.type("one", ALT_ENTER, "two", ENTER)
    answered(talk)
    talk.type(f"/save {place / 'talk.json'}", ENTER)
    talk.until("written")
    assert "one\\ntwo" in (place / "talk.json").read_text()
    talk.type("/quit", ENTER)
    talk.leaves()


def commands_are_completed(options, place):
    """Tab completes a command"""
    talk = Conversation(options, "--max-tokens", "3")
    talk.until("> ")
    talk.type("/us", TAB, ENTER)
    talk.until("tokens")
    talk.type("/qu", TAB, ENTER)
    talk.leaves()


def control_c_stops_the_answer_alone(options, place):
    """Ctrl-C drops what is written, then stops an answer, and the conversation goes on"""
    talk = Conversation(options, "--max-tokens", "4000")
    talk.until("> ")
    talk.type("not this", CTRL_C)
    talk.until("Ctrl-D leaves")
    talk.type("Count from one to a thousand.", ENTER)
    talk.until("\n", 2)
    time.sleep(1)
    os.killpg(talk.process.pid, signal.SIGINT)
    assert "of" in answered(talk)
    talk.type("/save " + str(place / "cut.json"), ENTER)
    talk.until("written")
    assert "not this" not in (place / "cut.json").read_text()
    talk.type(CTRL_D)
    talk.leaves()


def history_is_kept_if_asked(options, place):
    """nothing is kept, unless a file is named; what begins with a blank is not"""
    kept = place / "history"
    for words, expected in ([], False), (["--history", str(kept)], True):
        talk = Conversation(options, "--max-tokens", "3", *words)
        talk.until("> ")
        talk.type("remember me", ENTER)
        answered(talk)
        talk.type(" but not me", ENTER)
        answered(talk)
        talk.type(CTRL_D)
        talk.leaves()
        assert kept.exists() == expected, f"{kept} {'is missing' if expected else 'was written'}"
    text = kept.read_text()
    assert "remember me" in text and "but not me" not in text, text
    talk = Conversation(options, "--max-tokens", "3", "--history", str(kept))
    talk.until("> ")
    talk.type(UP)
    talk.until("remember me")
    talk.type(CTRL_C, CTRL_D)
    talk.leaves()


CASES = [texts_come_back, lines_are_edited, commands_are_completed, control_c_stops_the_answer_alone, history_is_kept_if_asked]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--ondine", required=True)
    options = parser.parse_args()
    held = 0
    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            try:
                case(options, pathlib.Path(place))
                held += 1
                print(f"holds   {case.__doc__}", flush=True)
            except AssertionError as missed:
                print(f"MISSED  {case.__doc__}: {missed}", flush=True)
    print(f"{held} of {len(CASES)} cases hold")
    sys.exit(held < len(CASES))


if __name__ == "__main__":
    main()
