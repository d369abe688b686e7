"""Makes a layer's tar from a delta of version 4, for the tests: written from docs/delta-format.md. `delta_decode.py DELTA BASE` writes the
tar to its standard output. Contents that were packed (operation 11) are refused: they need another implementation of deflate."""

import copy
import lzma
import os
import struct
import sys
from math import exp

M = 0xFFFFFFFF
PRIMES = 0x9E3779B1, 0x2F0B4C47
RIP = bytes.fromhex("03 10 11 1E 28 29 2B 2E 2F 39 3B 54 57 58 59 5C 63 6F 7E 7F 80 83 85 89 8B 8D B6 B7 C7 D6 F6 FF")


def h(*values):
    x = 0x811C9DC5
    for value in values:
        x = (x ^ (value & M)) * 0x01000193 & M
        x = (x << 13 | x >> 19) & M
        x = x * 0x85EBCA6B & M
    return x


def div(a, b):
    """Rounded towards zero."""
    return a // b if a >= 0 else -(-a // b)


T = [min(65535, max(1, round(65536 / (1 + exp(12 - i / 2))))) for i in range(49)]


def squash(logit):
    x = min(max(logit, -3072), 3071) + 3072
    i, f = divmod(x, 128)
    return (T[i] * (128 - f) + T[i + 1] * f) // 128


STRETCH = []
for logit in range(-3072, 3072):
    while len(STRETCH) <= squash(logit) >> 4:
        STRETCH.append(logit)


def near(d):
    return d if d <= 7 else min(5 + d.bit_length() - 1, 15)


def signed32(n):
    return (n & M) - (1 << 32) if n >> 31 & 1 else n & M


class Coder:
    """The arithmetic decoder."""

    def __init__(self, data):
        self.data, self.at, self.low, self.high, self.value = data, 0, 0, M, 0
        for _ in range(4):
            self.next()

    def next(self):
        byte = self.data[self.at] if self.at < len(self.data) else 0
        self.at += 1
        self.value = (self.value << 8 | byte) & M

    def copy(self):
        other = Coder(b"")
        other.__dict__.update(self.__dict__)
        return other

    def bit(self, p):
        cut = self.low + ((self.high - self.low) * p >> 16)
        yes = self.value <= cut
        if yes:
            self.high = cut
        else:
            self.low = cut + 1
        while (self.low ^ self.high) >> 24 == 0:
            self.low, self.high = self.low << 8 & M, (self.high << 8 | 255) & M
            self.next()
        return int(yes)


FINE = 22, 4, 255, [131072 // (2 * n + 3) for n in range(256)]
QUICK = 16, 8, 3, [43690, 26214, 18724, 8192]


class Predictor:
    def __init__(self, kind, priors, sizes, fine, rows, rate):
        self.kind, self.rate, self.sizes = kind, rate, sizes
        self.tables = [{} for _ in sizes]
        self.coarse = [[list(prior) + [0], 0] for prior in priors]
        self.fine = [None] * fine
        self.rows = {}
        self.inputs = len(sizes)

    def code(self, coder, contexts, coarse, fine, row, within=None):
        bits, dropped, most, rates = self.kind
        half = 1 << (dropped - 1)
        found, inputs = [], []
        for i, context in enumerate(contexts):
            g = context * PRIMES[0] & M
            slot = g >> (32 - self.sizes[i])
            if within is not None and i < 12:
                slot ^= within
            p, n, check = self.tables[i].get(slot, (1 << (bits - 1) | half, 0, 0))
            own = check == (g >> 8 & 63)
            found.append((slot, g >> 8 & 63, p, n, check, own))
            inputs.append(STRETCH[p >> (bits - 12)] if own and n else 0)
        inputs.append(256)
        common = self.coarse[coarse]
        if self.fine[fine] is None:
            self.fine[fine] = [0] * (self.inputs + 1)
        special = self.fine[fine]
        total = sum((a + b) * i for a, b, i in zip(common[0], special, inputs))
        logit = min(max(total >> 16, -3072), 3071)
        p = squash(logit)
        if row not in self.rows:
            self.rows[row] = [min(65535, squash((i - 16) * 192)) for i in range(33)]
        refined = self.rows[row]
        step, part = divmod(logit + 3072, 192)
        r = (refined[step] * (192 - part) + refined[step + 1] * part) // 192
        bit = coder.bit(min(max((p + r) // 2, 1), 65535))
        nearer = step if part < 96 else step + 1
        refined[nearer] += div((65535 if bit else 0) - refined[nearer], 64)
        goal = (1 << bits) - 1 if bit else 0
        for table, (slot, mine, was, n, check, own) in zip(self.tables, found):
            if not own and n > 1:
                table[slot] = was, n - 1 - n // 4, check
                continue
            if not own or n == 0:
                was, n = 1 << (bits - 1) | half, 0
            was += (goal - was) * rates[n] >> 16
            table[slot] = was >> dropped << dropped | half, min(n + 1, most), mine
        error = ((bit << 16) - p) * self.rate
        hurry = error * (1 + 2048 // (min(common[1], 1793) + 256)) if common[1] < 1793 else error
        common[1] += 1
        for i, value in enumerate(inputs):
            special[i] = min(max(special[i] + (value * error + (1 << 19) >> 20), -(1 << 22)), 1 << 22)
            common[0][i] = min(max(common[0][i] + (value * hurry + (1 << 20) >> 21), -(1 << 22)), 1 << 22)
        return bit


class Numbers:
    def __init__(self):
        self.predictor = Predictor(FINE, [[8738] * 4] * 5, [12] * 4, 256, 1, 8)
        self.last, self.diagonals = (0, 0, 0), [0] * 4

    def number(self, coder, w, a, b, c):
        code, node = self.predictor.code, 1
        for shift in range(5, -1, -1):
            contexts = h(w, node), h(w, node, a, 1), h(w, node, b, a), h(w, node, c, b, 2)
            node = node * 2 + code(coder, contexts, w, 8 * w + shift, 0)
        size = min(node & 63, 32)
        made = min(size, 1)
        for shift in range(size - 2, -1, -1):
            top = made if size - 1 - shift <= 5 else 0
            contexts = h(w + 8, size, shift, top), h(w + 8, size, shift, top, a), h(w + 8, size, shift, b), h(w + 8, shift, made)
            made = made * 2 + code(coder, contexts, w, 64 + 32 * w + shift, 0)
        return made

    def piece(self, coder, new, done):
        s, l, k = self.last
        literal = self.number(coder, 0, s, l, k)
        size = literal.bit_length()
        exact = int(self.number(coder, 1, size, l, k & 3) != 0)
        start = new + literal & M
        diagonal = self.number(coder, 2, size, k, l)
        if diagonal < 4:
            old = start - self.diagonals[diagonal] & M
        else:
            folded = self.number(coder, 3, size, k, l)
            old = done + (folded >> 1 ^ -(folded & 1)) & M
        length = self.number(coder, 4, diagonal, size, l)
        del self.diagonals[min(diagonal, 3)]
        self.diagonals.insert(0, start - old & M)
        self.last = size, length.bit_length(), (k << 2 | (diagonal == 4) << 1 | exact) & 255
        return literal, old, length, exact


def moves_of(pieces):
    kept, least, start = [], 32, 0
    for literal, old, length, _ in pieces:
        start += literal
        if length >= least:
            while len(kept) >= 32768:
                least *= 2
                kept = [one for one in kept if one[2] >= least]
            if length >= least:
                kept.append([old, start, length])
        start += length
    kept.sort(key=lambda one: (one[0], -one[2], one[1]))
    moves = []
    for old, new, length in kept:
        gone = False
        while moves:
            last = moves[-1]
            end = last[0] + last[2]
            if old >= end:
                break
            if length <= last[2]:
                cut = end - old
                gone = cut >= length
                old, new, length = old + cut, new + cut, length - cut
                break
            last[2] = max(old - last[0], 0)
            if last[2]:
                break
            moves.pop()
        if not gone:
            moves.append([old, new, length])
    return moves


class Layout:
    def __init__(self, regions):
        self.regions = regions

    def at(self, offset):
        return next((r for r in self.regions if r[0] <= offset < r[1]), None)

    def address(self, offset):
        region = self.at(offset)
        return offset + region[2] & M if region else offset

    def offset(self, address):
        for start, end, shift, _ in self.regions:
            if shift != M and start <= (address - shift & M) < end:
                return address - shift & M
        return None


PLAIN, DATA, X86, A64, A32, TABLE = range(6)
REL32, WORD, BRANCH, PAGES, LOW, POINTER, OFFSET = range(1, 8)


def branch(reading, v):
    top = v >> 24
    if reading == A32:
        return (0, 24) if top == 0xEB else None
    if top in (0x14, 0x15, 0x16, 0x17, 0x94, 0x95, 0x96, 0x97):
        return 0, 26
    if top in (0x54, 0x34, 0x35, 0xB4, 0xB5):
        return 5, 19
    return (5, 14) if top in (0x36, 0x37, 0xB6, 0xB7) else None


def distance(field, v):
    low, bits = field
    n = v >> low & ((1 << bits) - 1)
    return (n - (1 << bits) if n >> (bits - 1) else n) * 4 & M


def with_distance(field, v, d):
    low, bits = field
    mask = (1 << bits) - 1 << low
    return v & ~mask & M | (d >> 2) << low & mask


def adrp(v):
    if v & 0x9F000000 != 0x90000000:
        return None
    n = v >> 29 & 3 | v >> 3 & 0x1FFFFC
    return v & 31, (n - (1 << 21) if n >> 20 else n) & M


def low_part(v):
    if v & 0xFFC00000 == 0x91000000:
        return v >> 5 & 31, 0
    if v & 0x3B000000 == 0x39000000:
        return v >> 5 & 31, 4 if v & 0x04800000 == 0x04800000 else v >> 30
    return None


class Fields:
    def __init__(self):
        self.tables, self.source = {}, 0
        self.open, self.last = None, {}
        self.trust, self.moved, self.pages = {}, {}, {}

    def content(self, old, new, moves):
        self.source += 1
        self.old, self.new, self.moves, self.recent = old, new, moves, []
        self.open, self.last, self.pages = None, {}, {}

    def range(self, old, new):
        self.by, self.open, self.pages = new - old, None, {}

    def mark(self):
        copy = {key: list(value) for key, value in self.trust.items()}
        opened = dict(self.open) if self.open else None
        return dict(self.tables), opened, dict(self.last), copy, dict(self.moved), dict(self.pages)

    def back(self, mark):
        self.tables, self.open, self.last, self.trust, self.moved, self.pages = mark

    def moved_to(self, offset):
        found = None
        for old, new, _ in self.moves:
            if old > offset:
                break
            found = new + offset - old & M
        return found

    def lately_moved_to(self, offset):
        best = None
        for old, new, length in reversed(self.recent[-17:]):
            if length and old <= offset:
                beyond = max(offset - old + 1 - length, 0)
                if beyond < 32 and (best is None or beyond < best[0]):
                    best = beyond, new + offset - old & M
        return best[1] if best else None

    def begin(self, b, position):
        if self.open and self.open["kind"] != WORD:
            return
        region = self.old.at(position)
        if region is None:
            return
        v, a, aligned, reading = b.word(0), position + region[2] & M, position % 4 == 0, region[3]
        kind = target = how = None
        table = False
        if reading == DATA and aligned:
            code = self.old.offset(a + v & M)
            if v >= 4096 and self.old.offset(v) is not None:
                kind, target = POINTER, v
            elif v and code is not None and self.old.at(code)[3] in (X86, A64, A32):
                kind, target = OFFSET, a + v & M
            else:
                kind, target = WORD, v
        elif reading == TABLE and aligned:
            target = region[0] + region[2] + v & M
            table = v != 0 and self.old.offset(target) is not None
            kind, target = (OFFSET, target) if table else (WORD, v)
        elif reading == X86:
            last, before = b(-1), b(-2)
            jump = before == 0x0F and last & 0xF0 == 0x80
            if last in (0xE8, 0xE9) or jump or (last & 0xC7 == 5 and before in RIP):
                kind, target = REL32, a + 4 + v & M
            elif aligned and not self.open:
                kind, target = WORD, v
        elif reading in (A64, A32) and aligned:
            how = branch(reading, v)
            if how:
                kind, target = BRANCH, a + distance(how, v) & M
            elif reading == A64 and adrp(v):
                how, pages = adrp(v)
                target = ((a >> 12) + pages << 12) & M
                for i in range(4, 24, 4):
                    part = low_part(b.word(i))
                    if part and part[0] == how:
                        target = target + ((b.word(i) >> 10 & 0xFFF) << part[1]) & M
                        break
                kind = PAGES
            elif reading == A64 and low_part(v) and low_part(v)[0] in self.pages:
                how = low_part(v)
                kind, target = LOW, self.pages[how[0]][0] + ((v >> 10 & 0xFFF) << how[1]) & M
        if kind is None:
            return
        source = self.source * PRIMES[0] & M
        salt = {WORD: 2, PAGES: 4}.get(kind, 0)
        keys = []
        for number, t in enumerate((target >> 12 if kind == PAGES else target, target >> 8)):
            m = (t ^ source) * 0x85EBCA6B & M
            keys.append(((m ^ m >> 15 ^ salt + number) * 0xC2B2AE35 & M) | 1)
        here = position + self.by & M
        at = self.new.at(here)
        here = at[0] + at[2] & M if at and table else self.new.address(here)
        offset = self.old.offset(target)
        shifts = [None] * 5
        if kind == WORD:
            shifts[0] = self.last.get(kind, (0, 0))[1]
        elif offset is not None and self.moved_to(offset) is not None:
            shifts[0] = self.new.address(self.moved_to(offset)) - target & M
        for number, key in enumerate(keys):
            known = self.tables.get((number, key >> 19))
            if known and known[0] == key:
                shifts[1 + number] = known[1]
        shifts[3] = self.last.get(kind, (0, 0))[0]
        if kind in (BRANCH, REL32) and offset is not None and self.lately_moved_to(offset) is not None:
            shifts[4] = self.new.address(self.lately_moved_to(offset)) - target & M
        field = {"kind": kind, "at": 0, "old": v, "new": 0, "target": target, "here": here, "how": how, "keys": keys}
        field["guesses"] = [None if shift is None else self.apply(field, shift) for shift in shifts]
        self.open = field

    def apply(self, field, shift):
        kind, old, here, how = field["kind"], field["old"], field["here"], field["how"]
        target = field["target"] + shift & M
        if kind in (WORD, POINTER):
            return old + shift & M
        if kind == REL32:
            return target - here - 4 & M
        if kind == OFFSET:
            return target - here & M
        if kind == BRANCH:
            return with_distance(how, old, target - here & M)
        if kind == PAGES:
            pages = (target >> 12) - (here >> 12)
            return old & ~0x60FFFFE0 & M | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        low = (target - self.pages[how[0]][1] & M) >> how[1]
        return None if low >= 4096 else old & ~0x003FFC00 & M | low << 10

    def view(self, b, position):
        """What is predicted, the other guess, pattern, place and trust."""
        self.begin(b, position)
        field, old = self.open, b(0)
        if not field:
            return old, old, 0, 0, 0
        at, done = field["at"], (1 << 8 * field["at"]) - 1
        trust = self.trusted(field["kind"])
        left = [(trust[i], -i, g >> 8 * at & 255) for i, g in enumerate(field["guesses"]) if g is not None and not (g ^ field["new"]) & done]
        left.sort(reverse=True)
        unchanged = not (field["old"] ^ field["new"]) & done
        if left and (not unchanged or left[0][0] >= trust[5]):
            sure, predicted = left[0][0], left[0][2]
        else:
            sure, predicted = trust[5] if unchanged else 0, old
        says = {-i: byte for _, i, byte in left}
        pattern = 0
        for i, guess in enumerate(field["guesses"]):
            state = (2 if says[i] == predicted else 3) if i in says else int(guess is not None)
            pattern |= state << 2 * i
        other = next((byte for _, _, byte in left[:2] if byte != predicted), old)
        return predicted, other, pattern, field["kind"] * 4 + at, sure >> 13

    def trusted(self, kind):
        return self.trust.setdefault((kind, self.moved.get(kind, 0)), [1 << 15] * 6)

    def learn(self, byte):
        field = self.open
        if not field:
            return
        field["new"] |= byte << 8 * field["at"]
        field["at"] += 1
        if field["at"] < 4:
            return
        self.open = None
        kind, new, here, target, how = (field[name] for name in ("kind", "new", "here", "target", "how"))
        trust = self.trusted(kind)
        for i, guess in enumerate(field["guesses"] + [field["old"]]):
            if guess is not None:
                trust[i] += div((65535 if guess == new else 0) - trust[i], 32)
        self.moved[kind] = (self.moved.get(kind, 0) << 1 | (new != field["old"])) & 7
        if kind in (WORD, POINTER):
            shift = new - field["old"]
        elif kind == REL32:
            shift = here + 4 + new - target
        elif kind == OFFSET:
            shift = here + new - target
        elif kind == BRANCH:
            shift = here + distance(how, new) - target
        elif kind == PAGES:
            old = target & ~4095
            page = ((here >> 12) + adrp(new)[1] << 12) & M if adrp(new) else old
            self.pages[how] = old, page
            shift = page - old
        else:
            shift = self.pages[how[0]][1] + ((new >> 10 & 0xFFF) << how[1]) - target
        self.last[kind] = shift & M, self.last.get(kind, (0, 0))[0]
        for number, key in enumerate(field["keys"]):
            self.tables[number, key >> 19] = key, shift & M


PRIORS = (
    [3200, 4800, 7700, 4900, 6000, 5300, 3400, 14000, 8800, 7800, 4600, 4000, 500, 17000, 8100, 5600, 8100, 22700, 2000, 0],
    [3600, 3300, 2500, 4200, 3000, 9800, 3500, 2500, 12600, 7400, 3600, 3100, 500, 7600, 9800, 7100, 11000, 6700, 4900, 0],
)


class Symbols:
    def __init__(self):
        priors = [PRIORS[min(i // 8, 1)] for i in range(40)]
        self.predictor = Predictor(QUICK, priors, [16] * 12 + [14] * 8, 360, 512, 8)
        self.latest, self.turned = [0] * 16, False
        self.hits = [[0] * 7, [0] * 7]
        self.came = [bytearray(4096) for _ in range(4)]
        self.history, self.index, self.place, self.ok = bytearray(1 << 18), {}, 0, 0
        self.count = 0
        self.numbers, self.begun, self.bits, self.right = [0] * 4, 0, 0, 0

    def number(self, begin, end):
        """The new bytes before the latest `begin`, up to the latest `end`, the latest lowest."""
        return int.from_bytes(bytes(self.latest[begin:end]), "little")

    def turn(self, turned):
        if turned != self.turned:
            self.turned = turned
            self.latest = [byte for i in range(0, 16, 4) for byte in reversed(self.latest[i : i + 4])]

    def take(self, byte):
        self.latest = [byte] + self.latest[:15]
        self.begun |= (byte & 127) << self.bits
        self.bits += 7
        if byte < 128 or self.bits == 28:
            self.right = (self.right << 1 | (self.begun == (self.numbers[2] + self.numbers[3] & M))) & M
            self.numbers = [self.begun] + self.numbers[:3]
            self.begun = self.bits = 0

    def take_predicted(self, byte):
        self.turn(False)
        self.take(byte)

    def sums(self):
        total = self.numbers[2] + self.numbers[3] & M
        stands = not (total ^ self.begun) & ((1 << self.bits) - 1)
        rest = total >> self.bits
        guess = rest & 127 | (128 if rest > 127 else 0)
        return guess, (1 if self.bits == 0 else 2) if stands else 0, self.right & 255

    def code(self, coder, mode, guesses, known_by, bases):
        node = 1
        for shift in range(7, -1, -1):
            begun = 1 << (3 - (shift & 3))
            within = node & (begun - 1) | begun
            top = 1 if shift > 3 else node >> (3 - (shift & 3))
            says = [1 + (g >> shift & 1) if (256 | g) >> (shift + 1) == node else 0 for g in guesses]
            contexts = [base + top * PRIMES[1] & M for base in bases[:12]]
            contexts.append(bases[12] + node * PRIMES[1] & M)
            contexts += [base + (say * 8 + shift) * PRIMES[1] & M for base, say in zip(known_by, says)]
            fine = ((mode * 8 + shift) * 3 + says[0]) * 3 + says[1]
            row = (256 if mode else 0) + node
            node = node * 2 + self.predictor.code(coder, contexts, mode * 8 + shift, fine, row, within)
        byte = node & 255
        hits = self.hits[min(mode, 1)]
        for i, guess in enumerate(guesses):
            hits[i] = (hits[i] << 1 | (guess == byte)) & 255
        return byte

    def otherwise(self, coder, b, position, view, diffs, changes, missed):
        self.turn(False)
        predicted, other, pattern, place, _ = view
        phase = position & 3
        old, c, last = b(0), lambda n: self.latest[n - 1], lambda n: self.number(0, n)
        plus = lambda diff: old + diff & 255
        d = lambda n: diffs >> 8 * (n - 1) & 255
        x, fresh, above = plus(changes), last(phase), self.number(phase, phase + 4)
        whole = b.word(-phase)
        guess, standing, right = self.sums()
        slots = [h(41, place, changes & 0xFFFF) * PRIMES[0] & M, h(42, b(-1), old, b(1), place) * PRIMES[0] & M]
        slots = [slot >> 20 for slot in slots]
        guesses = [other, x, plus(d(4)), plus(d(8)), plus(self.came[0][slots[0]]), self.came[1][slots[1]], guess]
        hit = [hits & 15 for hits in self.hits[0]]
        known_by = (
            h(1, place, pattern, hit[0]), h(2, place, hit[1], missed & 7), h(3, phase, hit[2], hit[3] & 3),
            h(4, phase, hit[3], hit[2] & 3), h(5, place, hit[4]), h(6, place, hit[5]), h(45, standing, right),
        )
        bases = (
            h(3, b(-3) << 24 | b(-2) << 16 | b(-1) << 8 | old), h(5, old, changes & 0xFFFFFF), h(6, c(1), old, b(1)),
            h(7, last(2), old), h(8, last(3), phase), h(9, last(4), 0), h(10, whole, fresh, phase),
            h(11, plus(d(1)), plus(d(2)), missed & 3), h(12, c(1), predicted, place), h(13, old, x, place),
            h(14, whole >> 21, fresh, phase), h(15, above & 0xFF, above >> 13 & 7, old, fresh, phase),
            h(46, self.numbers[3], self.begun, self.bits),
        )
        new = self.code(coder, 0, guesses, known_by, bases)
        self.came[0][slots[0]] = new - old & 255
        self.came[1][slots[1]] = new
        self.take(new)
        return new

    def literal(self, coder, e, f, position, word):
        self.turn(word)
        repeat, ok = self.history[self.place], self.ok
        guess, standing, right = self.sums()
        done = 3 - (position & 3) if word else position & 3
        phase = done + 4 * word
        c, last = lambda n: self.latest[n - 1], lambda n: self.number(0, n)
        fresh, above, further = last(done), self.number(done, done + 4), self.number(done + 4, done + 8)
        hit, same, sure = self.hits[1], int(e == f), min(ok, 1)
        known_by = (
            h(21, min(ok, 31), 0, 0), h(22, hit[1], same, 0), h(23, hit[2], same, 0), h(24, hit[1] & 15, hit[2] & 15, sure),
            h(25, hit[4], sure), h(26, hit[5], sure), h(45, standing, right),
        )
        slots = [h(43, c(1), c(2), c(3)) * PRIMES[0] & M, h(44, above >> 21, fresh, phase) * PRIMES[0] & M]
        slots = [slot >> 20 for slot in slots]
        guesses = [repeat, e, f, e, self.came[2][slots[0]], self.came[3][slots[1]], guess]
        bases = (
            h(8, last(3), phase), h(24, c(1), e, f), h(25, last(4), self.number(4, 6)), h(26, last(2), e), h(27, last(2), f),
            h(28, last(2)), h(9, last(4), 0), h(30, above, fresh, phase), h(32, c(1), phase), h(33, self.number(1, 4)),
            h(34, above >> 21, further >> 21, fresh, phase), h(35, above & 0x3FF, fresh, phase),
            h(46, self.numbers[3], self.begun, self.bits),
        )
        mode = 1 if ok == 0 else 2 if ok < 16 else 3 if ok < 32 else 4
        new = self.code(coder, mode, guesses, known_by, bases)
        self.came[2][slots[0]] = self.came[3][slots[1]] = new
        self.take(new)
        self.repeat(new)
        return new

    def repeat(self, new):
        size = len(self.history)
        if self.ok:
            if self.history[self.place] == new:
                self.ok, self.place = self.ok + 1, (self.place + 1) % size
            else:
                self.ok = 0
        self.history[self.count % size] = new
        self.count += 1
        n = self.count
        slot = (self.number(0, 6) * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 50
        m, self.index[slot] = self.index.get(slot, 0), n
        if self.ok == 0 and 0 < m and n - m < size - 32:
            alike = 0
            while alike < min(32, m) and self.history[(m - alike - 1) % size] == self.history[(n - alike - 1) % size]:
                alike += 1
            if alike >= 6:
                self.ok, self.place = alike, m % size


class Near:
    """Old bytes of a range around one."""

    def __init__(self, old, at):
        self.old, self.at = old, at

    def __call__(self, i):
        # Eight behind and 23 ahead.
        at = self.at + i
        return self.old[at] if -8 <= i < 24 and 0 <= at < len(self.old) else 0

    def word(self, i):
        return self(i) | self(i + 1) << 8 | self(i + 2) << 16 | self(i + 3) << 24


class Model:
    def __init__(self):
        self.units = Predictor(FINE, [[8000, 7000, 12000, 12000, 27000, 3000, 5000]] * 8, [14] * 7, 1024, 64, 4)
        prior = [4800, 17000, 3500, 8000, 2500, 12000, 9700, 16000, 3300]
        self.bytes = Predictor(FINE, [prior] * 32, [14] * 9, 2048, 128, 6)
        self.symbols, self.fields = Symbols(), Fields()
        self.missed = self.units_missed = self.changed = self.diffs = self.changes = self.since = self.gap = 0

    def count(self, old, new):
        diff = new - old & 255
        self.diffs = (self.diffs << 8 | diff) & (1 << 64) - 1
        self.changed = (self.changed << 1 | (diff != 0)) & M
        if diff:
            self.changes = (self.changes << 8 | diff) & M

    def unit(self, coder, old, start, size, position):
        """`size` new bytes from `start` of the range, which lies at `position` of the source."""
        mark = self.fields.mark()
        predicted, patterns, doubts, fields = [], 0, 7, 0
        for i in range(size):
            byte, _, pattern, place, trust = self.fields.view(Near(old, start + i), position + i)
            predicted.append(byte)
            self.fields.learn(byte)
            if place and place & 3 == 0:
                patterns = (patterns * PRIMES[1] + (pattern << 8 | place)) & M
                doubts, fields = min(doubts, trust), fields + 1
        b, units, short = Near(old, start), self.units_missed, size if size < 16 else 0
        since = near(self.since)
        contexts = (
            h(1, units & 0xFFF, short), h(2, b.word(0), units & 1), h(3, b.word(8), b.word(12)), h(4, since, near(self.gap), short),
            h(5, patterns, doubts), h(7, b.word(0), b.word(4), b.word(8) & 0xFFFF),
            h(8, self.changed & 0xFFFF, position >> 4 & 3, short),
        )
        fine = (doubts * 9 + min(fields, 8)) * 8 + (units & 7)
        if not self.units.code(coder, contexts, doubts, fine, doubts * 8 + min(since, 7)):
            for i, byte in enumerate(predicted):
                self.symbols.take_predicted(byte)
                self.count(old[start + i], byte)
            self.missed = self.missed << size & M
            self.since += size
            self.units_missed = units << 1 & M
            return predicted
        self.fields.back(mark)
        self.units_missed = (units << 1 | 1) & M
        made, some = [], False
        for i in range(size):
            b, p = Near(old, start + i), position + i
            view = self.fields.view(b, p)
            if (not some and i + 1 == size) or self.byte(coder, b, view, p, some, size - i):
                some, miss = True, 1
                byte = self.symbols.otherwise(coder, b, p, view, self.diffs, self.changes, self.missed)
            else:
                miss, byte = 0, view[0]
                self.symbols.take_predicted(byte)
            made.append(byte)
            self.fields.learn(byte)
            self.count(old[start + i], byte)
            self.missed = (self.missed << 1 | miss) & M
            self.gap, self.since = (self.since, 0) if miss else (self.gap, self.since + 1)
        return made

    def byte(self, coder, b, view, p, some, left):
        _, _, pattern, place, trust = view
        strides = sum((self.changed >> n - 1 & 1) << i for i, n in enumerate((4, 8, 12, 16, 24)))
        waiting, missed = 0 if some else left, self.missed
        contexts = (
            h(1, missed & 0xFFFF, p & 3), h(2, b(0), b(-1), missed & 3), h(4, b(0) << 24 | b(1) << 16 | b(2) << 8 | b(3), place),
            h(6, self.changes & 0xFFFF, missed & 15, place), h(7, waiting, place, near(self.since)),
            h(8, b(-2), b(-1), missed & 15, place), h(9, pattern, place, trust),
            h(10, pattern, place, missed & 15, min(waiting, 2)), h(11, strides, p & 7, missed & 3),
        )
        fine = (trust * 32 + place) * 4 + min(waiting, 3)
        return self.bytes.code(coder, contexts, place, fine, trust * 16 + min(waiting, 15))


class Control:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            sys.exit("the control section ends too soon")
        self.at += n
        return self.data[self.at - n : self.at]

    def byte(self):
        return self.take(1)[0]

    def number(self):
        n = shift = 0
        while True:
            byte = self.byte()
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n

    def signed(self):
        n = self.number()
        return n >> 1 ^ -(n & 1)

    def layout(self):
        regions, start = [], 0
        for _ in range(self.number()):
            end, what = start + self.number(), self.byte()
            regions.append((start, end, self.signed() & M if what & 128 else M, what & 127))
            start = end
        return Layout(regions)


def octal(header, begin, end, n):
    header[begin:end] = b"%0*o" % (end - begin, n)


def text(header, begin, end):
    return bytes(header[begin:end]).split(b"\0")[0]


class Decoder:
    def __init__(self, delta, base):
        magic, version, rest, _, self.target, self.size, packed, unpacked, pieces, contents = struct.unpack("<8sHH32s32sQQQQQ", delta[:116])
        if magic != b"CORACLED" or version != 4 or rest:
            sys.exit("no delta of version 4")
        if 116 + packed + pieces + contents != len(delta):
            sys.exit("the sections are not the rest of the file")
        filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 256 << 10, "lc": 3, "lp": 0, "pb": 0}]
        control = delta[116 : 116 + packed]
        self.control = Control(lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(control, unpacked) if unpacked else b"")
        self.pieces = Coder(delta[116 + packed : 116 + packed + pieces])
        self.contents = Coder(delta[116 + packed + pieces :])
        self.base, self.header, self.out = os.fsencode(base), bytearray(512), bytearray()
        self.numbers, self.model = Numbers(), Model()

    def file(self, path):
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        found = self.base
        for part in parts:
            found = os.path.join(found, part)
            if part == b".." or os.path.islink(found):
                sys.exit(f"{path!r} leads elsewhere")
        with open(found, "rb") as file:
            return file.read()

    def name(self):
        return text(self.header, 0, 100)

    def fields(self, known):
        control, header, flags = self.control, self.header, self.control.byte()
        if flags & ~known:
            sys.exit("unknown header field")
        if flags & 1:
            kept = self.name()[: control.number()]
            header[:100] = (kept + control.take(control.number())).ljust(100, b"\0")
        if flags & 2:
            octal(header, 124, 135, control.number())
        if flags & 4:
            digits = bytes(header[136:148])
            old = digits[: len(digits) - len(digits.lstrip(b"01234567"))]
            octal(header, 136, 147, int(old or b"0", 8) + control.signed())
        if flags & 8:
            octal(header, 100, 107, control.number())
        if flags & 16:
            header[156] = control.byte()
        if flags & 32:
            header[157:257] = control.take(control.number()).ljust(100, b"\0")
        if flags & 64:
            octal(header, 108, 115, control.number())
            octal(header, 116, 123, control.number())

    def put_header(self):
        self.header[148:156] = b"%06o" % (sum(self.header[:148]) + 8 * 32 + sum(self.header[156:])) + self.header[154:156]
        self.out += self.header

    def pad(self):
        self.out += bytes(-len(self.out) % 512)

    def literals(self, n):
        return [self.model.symbols.literal(self.contents, 0, 0, i, False) for i in range(n)]

    def content(self, source):
        control, model, coder = self.control, self.model, self.contents
        old, new, count = control.layout(), control.layout(), control.number()
        self.numbers.diagonals = [0] * 4
        # Once ahead, with copies of decoder and model.
        numbers, ahead, pieces, at, done = copy.deepcopy(self.numbers), self.pieces.copy(), [], 0, 0
        for _ in range(count):
            pieces.append(numbers.piece(ahead, at, done))
            at, done = at + pieces[-1][0] + pieces[-1][2], pieces[-1][1] + pieces[-1][2]
        model.fields.content(old, new, moves_of(pieces))
        at = done = 0
        for _ in range(count):
            literal, begin, length, exact = self.numbers.piece(self.pieces, at, done)
            model.fields.recent.append((begin, at + literal, length))
            i = 0
            while i < literal:
                region, p = new.at(at + i), at + i
                word = p % 4 == 0 and literal - i >= 4 and region is not None and region[3] in (A64, A32) and region[1] - p >= 4
                made = bytearray(4 if word else 1)
                for j in reversed(range(len(made))):
                    ahead = begin - literal + i + j
                    e = source[done + i + j] if done + i + j < len(source) else 0
                    f = source[ahead] if length and 0 <= ahead < len(source) else 0
                    made[j] = model.symbols.literal(coder, e, f, p + j, word)
                self.out += made
                i += len(made)
            at += literal
            model.fields.range(begin, at)
            taken = source[begin : begin + length]
            if len(taken) < length:
                sys.exit("a piece beyond the source")
            if exact:
                self.out += taken
            else:
                i = 0
                while i < length:
                    size = min(16 - (begin + i) % 16, length - i)
                    self.out += bytes(model.unit(coder, taken, i, size, begin + i))
                    i += size
            at, done = at + length, begin + length

    def run(self):
        control = self.control
        while True:
            operation = control.byte()
            if operation == 0:
                break
            if operation == 1:
                self.fields(127)
                self.put_header()
            elif operation == 2:
                self.fields(127 & ~2)
                whole = self.file(self.name())
                octal(self.header, 124, 135, len(whole))
                self.put_header()
                self.out += whole
                self.pad()
            elif operation == 3:
                self.content(self.file(self.name()))
            elif operation == 4:
                self.content(self.file(control.take(control.number())))
            elif operation == 7:
                self.out += bytes(self.literals(control.number()))
            elif operation == 8:
                self.pad()
            elif operation == 9:
                self.out += bytes(control.number())
            elif operation == 10:
                self.header = bytearray(self.literals(512))
                self.out += self.header
            else:
                sys.exit(f"operation {operation} is not known here")
        if len(self.out) != self.size:
            sys.exit("it makes another size than it announced")
        return self.out


with open(sys.argv[1], "rb") as file:
    sys.stdout.buffer.write(Decoder(file.read(), sys.argv[2]).run())
