// The portal's sentences, read from their source.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

export const src = new URL('../src/', import.meta.url).pathname;

/** The keys and sentences of a catalogue, from its source. */
export function catalogue(language) {
  const file = ts.createSourceFile('', readFileSync(join(src, `${language}.ts`), 'utf8'), ts.ScriptTarget.Latest);
  const sentences = new Map();
  const walk = (node) => {
    if (ts.isPropertyAssignment(node)) {
      assert.ok(!sentences.has(node.name.text), `${language}.ts says ${node.name.text} twice`);
      sentences.set(node.name.text, node.initializer.text);
    }
    ts.forEachChild(node, walk);
  };
  walk(file);
  return sentences;
}
