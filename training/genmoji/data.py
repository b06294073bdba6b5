"""Batches of latents and encoded captions: pictures of the pack, and scenes composed while training goes on."""

import multiprocessing
import os
import queue
import random
import time

import numpy as np
import torch
from pack import ALONE, boxes, describe, read_cut_outs, read_pack, share, to_signed
from recolour import clay_order, moulded, own_colour, vivid
from scenes import Composer, Painter, read_words, to_arrays
from text import TextEncoder, read_tokenizer, sentence

TOKENS = 24  # fixed length of a training caption, so that one compiled graph serves all
CHUNK = 512  # scenes rendered at once


def tokenized(tokenizer, captions):
    return np.array([text.ids for text in tokenizer.encode_batch(captions)], np.int16)


def compose(found, stop, composer, text_folder, seed):
    """A process that fills a queue with scenes until told to stop."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    composer.rng = random.Random(seed)
    tokenizer = read_tokenizer(text_folder, TOKENS)
    while not stop.is_set():
        scenes = [composer() for _ in range(CHUNK)]
        chunk = (*to_arrays(scenes), tokenized(tokenizer, [scene.caption for scene in scenes]))
        while not stop.is_set():
            try:
                found.put(chunk, timeout=0.5)
                break
            except queue.Full:
                continue


def make_composer(pictures, opacity, records, seed=0):
    facts = [vivid(p) for p in pictures], [own_colour(p) for p in pictures]
    return Composer(records, boxes(opacity), *facts, seed=seed)


def common_words(records):
    """The words of all emoji names, keywords and other names."""
    found = {word for r in records if r["style"] not in ALONE for text in (r["name"], *r["tags"]) for word in text.lower().split()}
    return found | {word for _, names in read_words().values() for text in names for word in text.split()}


def mould(pictures, records, held):
    """Every silhouette twice: in a colour of its own, and in another one which its name then says; in none that would make it a `held` name."""
    flat = [n for n, r in enumerate(records) if r["style"] == "silhouette"]
    if not flat:
        return pictures, records
    barred = [set(name.lower().replace("-", " ").split()) for name in held]

    def clays(name):
        words = {*name.split(), *(word.removesuffix("s") for word in name.split())}
        near = set().union(*(b for b in barred if b & words))
        return [c for c in clay_order(name) if c not in near]

    names = [records[n]["name"] for n in flat]
    plain, told = zip(*((order[0], order[1]) for order in map(clays, names)), strict=True)
    copies = moulded(pictures[flat], told)
    pictures[flat] = moulded(pictures[flat], plain)
    more = [{**records[n], "name": f"{colour} {records[n]['name']}"} for n, colour in zip(flat, told, strict=True)]
    return torch.cat([pictures, copies]), records + more


class Data:
    """`batch` gives latents and text, pictures first (`singles` of them), then scenes."""

    def __init__(self, a, vae):
        self.device, self.count = torch.device(a.device), a.batch
        self.singles = a.batch - round(a.batch * a.scenes)
        self.reuse, self.used, self.made = a.reuse, 0, 0
        cut_outs, opacity, plain = read_cut_outs(a.pack)
        composer = make_composer(cut_outs, opacity, plain)
        context = multiprocessing.get_context("fork")
        self.queue, self.stop = context.Queue(64), context.Event()
        seeds = random.Random(time.time_ns())
        jobs = [(self.queue, self.stop, composer, a.text, seeds.random()) for _ in range(a.workers)]
        self.workers = [context.Process(target=compose, args=job, daemon=True) for job in jobs]
        for worker in self.workers:
            worker.start()

        styles = set(a.styles.split(","))
        held = [r["name"] for r in plain if r["heldout"]]
        pictures, records = mould(*read_pack(a.pack, lambda r: r["style"] in styles and not r["heldout"]), held)
        rng, aliases, common = random.Random(time.time_ns()), read_words(), common_words(records)
        tokenizer = read_tokenizer(a.text, TOKENS)
        lines = [describe(r, rng, aliases.get(r["name"], ("", ()))[1], common) for r in records for _ in range(a.captions)]
        self.captions = torch.from_numpy(tokenized(tokenizer, lines)).view(len(records), a.captions, TOKENS).to(self.device)
        self.nothing = torch.from_numpy(tokenized(tokenizer, [""]))[0].to(self.device)
        self.vae = vae.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.latents = torch.cat([self.encode(to_signed(part.to(self.device))) for part in pictures.split(CHUNK)])
        self.odds = torch.tensor([share(r) for r in records], device=self.device)
        self.painter = Painter(cut_outs, opacity, self.device)
        self.bert = TextEncoder(a.text, a.device).network
        self.encode_text = self.bert if a.no_compile else torch.compile(self.bert)

        self.ring = torch.zeros(a.ring, *self.latents.shape[1:], dtype=torch.bfloat16, device=self.device)
        self.ring_captions = torch.zeros(a.ring, TOKENS, dtype=torch.int16, device=self.device)
        first = min(a.ring, max(2 * a.batch, a.ring // 4))
        while self.made < first and self.singles < self.count:
            self.refresh(wait=True)
        print(f"{len(records)} pictures, {sum(r['style'] == 'fluent-3d' for r in records)} of them plain; {self.made} scenes to begin with", flush=True)

    @torch.no_grad()
    def encode(self, signed):
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.vae.encode(signed.contiguous(memory_format=torch.channels_last)).latents.float() * self.vae.config.scaling_factor

    def refresh(self, wait=False):
        """Puts one chunk of new scenes into the ring, if there is one."""
        try:
            *arrays, captions = self.queue.get(block=wait)
        except queue.Empty:
            return False
        latents = self.encode(2 * self.painter(*arrays) - 1).bfloat16()
        begin = self.made % len(self.ring)
        rows = (torch.arange(CHUNK, device=self.device) + begin) % len(self.ring)
        self.ring[rows] = latents
        self.ring_captions[rows] = torch.from_numpy(captions).to(self.device)
        self.made += CHUNK
        return True

    def text(self, tokens):
        """(hidden states, mask, sentence vector) of token rows."""
        tokens = tokens.long()
        mask = (tokens != 0).float()
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.encode_text(tokens, mask)
        hidden = hidden.float()
        return hidden, mask, sentence(hidden, mask)

    def draw_batch(self, empty):
        """Latents and token rows; `empty` of the captions are the empty text."""
        while self.used > self.reuse * self.made and self.refresh():
            pass
        device = self.device
        shown = torch.multinomial(self.odds, self.singles, replacement=True)
        column = torch.randint(self.captions.shape[1], shown.shape, device=device)
        scenes = self.count - self.singles
        rows = torch.randint(max(1, min(self.made, len(self.ring))), (scenes,), device=device)
        self.used += scenes
        clean = torch.cat([self.latents[shown], self.ring[rows].float()])
        tokens = torch.cat([self.captions[shown, column], self.ring_captions[rows]])
        blank = torch.rand(self.count, 1, device=device) < empty
        return clean, torch.where(blank, self.nothing, tokens)

    def batch(self, empty=0.0):
        clean, tokens = self.draw_batch(empty)
        return clean, self.text(tokens)

    def close(self):
        self.stop.set()
        for worker in self.workers:
            worker.terminate()
