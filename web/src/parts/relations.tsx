// What a run found between organisations: filters, a picture, and the same as a
// list, with the evidence of whichever of them is picked.
import { Badge, Button, Card, Center, Group, Loader, MultiSelect, SimpleGrid, Stack, Switch, Text, TextInput } from '@mantine/core';
import { lazy, memo, Suspense, useCallback, useDeferredValue, useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';
import type { Schema } from '../api';
import { format } from '../i18n';
import { Proof } from './evidence';

const Graph = lazy(() => import('./graph').then((m) => ({ default: m.Graph })));

const verdicts = ['direct', 'indirect', 'significant_mention', 'unknown', 'no_evidence'] as const;

interface Shown {
  names: Map<string, Schema<'Node'>>;
  nodes: Schema<'Node'>[];
  lines: Schema<'Line'>[];
  alone: Schema<'Node'>[];
  ids: Set<string>;
}

export function Relations({ run, graph, edges }: { run: string; graph: Schema<'Graph'>; edges: Schema<'Edge'>[] }) {
  const { t } = useTranslation();
  const [text, setText] = useState('');
  const [kinds, setKinds] = useState<string[]>([]);
  const [verified, setVerified] = useState(false);
  const [picked, setPicked] = useState<string | null>(null);
  const sought = useDeferredValue(text.trim().toLowerCase());
  const shown = useMemo((): Shown => {
    const names = new Map(graph.nodes.map((n) => [n.id, n]));
    const wanted = (n: Schema<'Node'>) => kinds.length === 0 || !n.verdict || kinds.includes(n.verdict);
    const says = (id: string) => names.get(id)?.label.toLowerCase().includes(sought) ?? false;
    const lines = graph.edges.filter((l) => {
      const [a, b] = [names.get(l.source), names.get(l.target)];
      return a && b && wanted(a) && wanted(b) && (!verified || l.verified) && (!sought || says(l.source) || says(l.target) || l.label.toLowerCase().includes(sought));
    });
    const tied = new Set(lines.flatMap((l) => [l.source, l.target]));
    const filtered = sought !== '' || verified;
    const nodes = graph.nodes.filter((n) => wanted(n) && (!filtered || tied.has(n.id) || (!verified && says(n.id))));
    const kept = new Set(nodes.map((n) => n.id));
    const seen = lines.filter((l) => kept.has(l.source) && kept.has(l.target));
    return { names, nodes, lines: seen, alone: nodes.filter((n) => !tied.has(n.id)), ids: new Set([...kept, ...seen.map((l) => l.id)]) };
  }, [graph, kinds, verified, sought]);
  const toggle = useCallback((id: string) => setPicked((now) => (now === id ? null : id)), []);
  return (
    <Stack gap="sm">
      <Group align="flex-end">
        <TextInput label={t('graph.search')} value={text} onChange={(e) => setText(e.currentTarget.value)} flex={1} miw={180} />
        <MultiSelect label={t('graph.verdicts')} data={verdicts.map((v) => ({ value: v, label: t(`verdict.${v}`) }))} value={kinds} onChange={setKinds} clearable flex={1} miw={180} />
        <Switch label={t('graph.verified')} checked={verified} onChange={(e) => setVerified(e.currentTarget.checked)} pb={8} />
      </Group>
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Suspense
          fallback={
            <Center h={420}>
              <Loader aria-label={t('state.loading')} />
            </Center>
          }
        >
          <Graph graph={graph} shown={shown.ids} picked={picked} pick={setPicked} />
        </Suspense>
        <List shown={shown} picked={picked} toggle={toggle} />
      </SimpleGrid>
      {picked && <Picked id={picked} run={run} graph={graph} edges={edges} close={() => setPicked(null)} pick={setPicked} />}
    </Stack>
  );
}

/** What the picture shows, in words. Typing in the search does not draw it anew. */
const List = memo(function List({ shown, picked, toggle }: { shown: Shown; picked: string | null; toggle: (id: string) => void }) {
  const { t } = useTranslation();
  return (
    <Stack gap={4} mah={420} style={{ overflowY: 'auto' }} component="section" tabIndex={0} aria-label={t('graph.list')}>
      <Text size="sm" c="dimmed">
        {t('graph.count', { count: shown.nodes.length, nodes: format.number(shown.nodes.length), edges: format.number(shown.lines.length) })}
      </Text>
      {shown.lines.map((l) => (
        <Line key={l.id} id={l.id} picked={picked === l.id} toggle={toggle} before={shown.names.get(l.source)?.label} after={shown.names.get(l.target)?.label} middle={l.directed ? `→ ${l.label} →` : `– ${l.label} –`} note={`${format.score(l.confidence)} · ${t(l.verified ? 'run.verified' : 'run.unverified')}`} />
      ))}
      {shown.alone.map((n) => (
        <Line key={n.id} id={n.id} picked={picked === n.id} toggle={toggle} before={n.label} note={n.verdict && t(`verdict.${n.verdict}` as 'verdict.direct')} />
      ))}
    </Stack>
  );
});

/** One line of the list; a thousand of them are drawn anew only where they change. */
const Line = memo(function Line({ id, picked, toggle, before, middle, after, note }: { id: string; picked: boolean; toggle: (id: string) => void; before?: string; middle?: string; after?: string; note?: string }) {
  return (
    <button type="button" className="line" aria-pressed={picked} onClick={() => toggle(id)}>
      {before} {middle && <span className="dim">{middle}</span>} {after} {note && <span className="dim">{note}</span>}
    </button>
  );
});

/** The evidence of the line that is picked, or the lines of the node. */
function Picked({ id, run, graph, edges, close, pick }: { id: string; run: string; graph: Schema<'Graph'>; edges: Schema<'Edge'>[]; close: () => void; pick: (id: string) => void }) {
  const { t } = useTranslation();
  const names = new Map(graph.nodes.map((n) => [n.id, n]));
  const node = names.get(id);
  const edge = edges.find((e) => e.id === id);
  const label = (of: string) => names.get(of)?.label ?? of;
  return (
    <Card withBorder component="section" aria-live="polite">
      <Group justify="space-between" mb="xs">
        <Text fw={600}>{edge ? `${label(edge.from)} → ${label(edge.to)}` : node?.label}</Text>
        <Button size="xs" variant="default" onClick={close}>
          {t('action.close')}
        </Button>
      </Group>
      {edge && (
        <>
          <Text size="sm" c="dimmed">
            {[edge.schema, edge.role, edge.start_date, edge.end_date, t('graph.independent', { count: edge.independent_sources })].filter(Boolean).join(' · ')}
          </Text>
          {edge.evidence.map((e, i) => (
            <Proof key={i} of={e} run={run} />
          ))}
        </>
      )}
      {node && (
        <Stack gap={4}>
          <Group gap="xs">
            <Badge variant="default">{t(`role.${node.role}` as 'role.risk_item')}</Badge>
            {node.verdict && <Badge variant="default">{t(`verdict.${node.verdict}` as 'verdict.direct')}</Badge>}
            {node.countries.map((c) => (
              <Badge key={c} variant="default">
                {format.country(c)}
              </Badge>
            ))}
            {node.listed > 0 && <Badge variant="default">{t('graph.listed', { count: node.listed })}</Badge>}
          </Group>
          {graph.edges
            .filter((l) => l.source === id || l.target === id)
            .map((l) => (
              <button type="button" key={l.id} className="line" onClick={() => pick(l.id)}>
                {label(l.source)} → {l.label} → {label(l.target)}
              </button>
            ))}
        </Stack>
      )}
    </Card>
  );
}
