// SPDX-License-Identifier: Apache-2.0
// dump.mjs - prints a value of an npm package @unicode/unicode-N.0.0 as JSON, for gen_tables.py.
// Usage: node dump.mjs PACKAGE_DIR PROPERTY/VALUE...   one line for each: an array of code points, or of [from, to] pairs.
import { pathToFileURL } from 'node:url';
import { resolve } from 'node:path';

const [dir, ...values] = process.argv.slice(2);
for (const value of values) {
    const module = await import(pathToFileURL(resolve(dir, value, 'code-points.mjs')).href);
    const data = module.default;
    console.log(JSON.stringify(data instanceof Map ? [...data.entries()] : [...data]));
}
