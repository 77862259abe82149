// The sentences of the portal: each is used, each is in both languages with the
// same blanks, and none stands in a page outside of the catalogue.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';
import { catalogue, src } from './sentences.mjs';

const en = catalogue('en');
const zh = catalogue('zh');
const sources = readdirSync(src, { recursive: true })
  .filter((name) => /\.tsx?$/.test(name) && !/^(en|zh|api\.gen)\.ts$/.test(name))
  .map((name) => ({ name, file: ts.createSourceFile(name, readFileSync(join(src, name), 'utf8'), ts.ScriptTarget.Latest, true, ts.ScriptKind.TSX) }));

test('the catalogues have the same keys and blanks, and their own language', () => {
  assert.deepEqual([...zh.keys()].sort(), [...en.keys()].sort());
  const blanks = (text) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((m) => m[1]).filter((b) => b !== 'count');
  const names = /^(CSV|JSON Lines|FollowTheMoney|API|Jaro-Winkler|Levenshtein|Webhook|IP|PDF)$/;
  for (const [key, text] of en) {
    const twin = zh.get(key);
    assert.deepEqual(new Set(blanks(twin)), new Set(blanks(text)), `the blanks of ${key}`);
    assert.ok(text && twin, `${key} is empty`);
    if (key === 'chrome.language') continue; // each offers the other
    assert.doesNotMatch(text, /[\u4e00-\u9fff]/, `${key} has Chinese in English`);
    const bare = twin.replace(/\{\{\w+\}\}/g, '').replace(/[\s·–/→()%：，]/g, '');
    if (bare && !names.test(twin)) assert.match(twin, /[\u4e00-\u9fff]/, `${key} has no Chinese`);
  }
});

test('every sentence is used', () => {
  const whole = new Set();
  const heads = [];
  for (const { file } of sources) {
    const walk = (node) => {
      if (ts.isStringLiteralLike(node)) whole.add(node.text);
      if (ts.isTemplateExpression(node) && node.head.text.includes('.')) heads.push([node.head.text, node.templateSpans.at(-1).literal.text]);
      ts.forEachChild(node, walk);
    };
    walk(file);
  }
  const unused = [...en.keys()].filter((key) => {
    const base = key.replace(/_(one|other)$/, '');
    return !whole.has(key) && !whole.has(base) && !heads.some(([head, tail]) => key.startsWith(head) && key.endsWith(tail));
  });
  assert.deepEqual(unused, [], 'sentences that no page shows');
});

test('no page has words of its own', () => {
  // What is said the same in every language: names, units and marks.
  const same = /^([^\p{L}]*|ChainReactions|English|简体中文|PDF|CSV|JSON|ms|Ctrl K|https:\/\/|match\.example\.org|TXT|ten_( \/ usr_)?|plan\.grant|data\(label\))$/u;
  const spoken = new Set(['label', 'title', 'placeholder', 'description', 'aria-label', 'text', 'alt']);
  const found = [];
  for (const { name, file } of sources) {
    const at = (node) => `${name}:${file.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
    const walk = (node) => {
      if (ts.isJsxText(node) && !same.test(node.text.trim())) found.push(`${at(node)}: ${node.text.trim()}`);
      if (ts.isJsxAttribute(node) && spoken.has(node.name.getText()) && node.initializer && ts.isStringLiteral(node.initializer) && !en.has(node.initializer.text) && !same.test(node.initializer.text)) found.push(`${at(node)}: ${node.initializer.text}`);
      if (ts.isPropertyAssignment(node) && ts.isIdentifier(node.name) && spoken.has(node.name.text) && ts.isStringLiteral(node.initializer) && !en.has(node.initializer.text) && !same.test(node.initializer.text)) found.push(`${at(node)}: ${node.initializer.text}`);
      ts.forEachChild(node, walk);
    };
    walk(file);
  }
  assert.deepEqual(found, []);
});
