// Deciding whether a name and a listed entity are the same: pair after pair, by
// keys or by hand, each beside the other; undone rather than asked twice.
import { Button, Card, Group, Kbd, Stack, Table, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { fetchFile } from './act';
import { Mark } from './mark';
import { Explained, Quality } from './score';
import { useShortcuts } from './shortcuts';
import { Refusal } from './states';

export interface Asked {
  name: string;
  country: string;
  matches: Schema<'MatchResult'>[];
}
type Decision = Schema<'Decision'>;
type Match = Schema<'MatchResult'>;
type Verdict = Decision['verdict'];

export const verdicts = [
  { verdict: 'same', key: 'y', colour: 'red' },
  { verdict: 'different', key: 'n', colour: 'green' },
  { verdict: 'unsure', key: 'h', colour: 'orange' },
] as const;

const batch = 100;
const scope = { id: 'decisions' };
// One text for all of the names: a key is looked at on every drawing, and there may be thousands of them.
const useKey = (names: Asked[]) => useMemo(() => ['decisions', names.map((a) => `${a.name}\t${a.country}`).join('\n')], [names]);

/** What was decided about the names, in their order; only what has matches can have been. */
export function useDecisions(names: Asked[]) {
  return useQuery({
    queryKey: useKey(names),
    enabled: names.length > 0,
    queryFn: async () => {
      const all: Decision[][] = names.map(() => []);
      const asked = [...names.keys()].filter((i) => names[i]?.matches.length);
      for (let from = 0; from < asked.length; from += batch) {
        const some = asked.slice(from, from + batch);
        const queries = some.map((i) => ({ name: names[i]?.name ?? '', country: names[i]?.country ?? '' }));
        const { results } = await data(api.POST('/api/v1/decisions/lookup', { body: { queries } }));
        some.forEach((i, k) => (all[i] = results[k]?.decisions ?? []));
      }
      return all;
    },
  });
}

// An entity is the same one in a list that was replaced: by its external id, or its name.
const listed = (externalId: string, name: string) => (externalId || name).toLowerCase();

export const decided = (of: Decision[] | undefined, { entry }: Match) => of?.find((d) => d.dataset_id === entry.dataset_id && listed(d.external_id, d.entry_name) === listed(entry.external_id, entry.name));

/** The pairs of one name; j and k go on to those of the names beside it. */
export function Review({ names, at = 0, go, back }: { names: Asked[]; at?: number; go?: (at: number) => void; back?: () => void }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const key = useKey(names);
  const decisions = useDecisions(names);
  const [pair, setPair] = useState(0);
  const [undone, setUndone] = useState<{ at: number; pair: number; done: Decision }[]>([]); // what can be
  const cards = useRef<(HTMLDivElement | null)[]>([]);
  const wanted = useRef(Boolean(go)); // that the pair has the focus
  const [drafts, setDrafts] = useState<Record<string, string>>({}); // notes, by entry, until they are kept
  const asked = names[at];
  const known = decisions.data?.[at];

  const keep = (name: number, now: Decision | null, id: string) =>
    cache.setQueryData<Decision[][]>(key, (all) => all?.map((of, i) => (i === name ? [...of.filter((d) => d.id !== id), ...(now ? [now] : [])] : of)));
  const put = useMutation({
    scope, // one after another, in the order in which they were decided
    mutationFn: ({ name, match, verdict, note }: { name: number; pair: number; match: Match; verdict: Verdict; note: string }) =>
      data(api.PUT('/api/v1/decisions', { body: { query: { name: names[name]?.name ?? '', country: names[name]?.country ?? '' }, entry_id: match.entry.id, verdict, note, score: match.score } })),
    onSuccess: (done, { name, pair }) => {
      keep(name, done, done.id);
      setUndone((all) => [...all, { at: name, pair, done }]);
    },
  });
  const undo = useMutation({
    scope,
    mutationFn: async ({ at: name, pair, done }: { at: number; pair: number; done: Decision }) => {
      const match = names[name]?.matches[pair];
      if (!done.before || !match) {
        await data(api.DELETE('/api/v1/decisions/{id}', { params: { path: { id: done.id } } }));
        return null;
      }
      return data(api.PUT('/api/v1/decisions', { body: { query: { name: done.query, country: done.country }, entry_id: match.entry.id, ...done.before, score: done.score } }));
    },
    onSuccess: (now, was) => {
      keep(was.at, now, was.done.id);
      setUndone((all) => all.filter((u) => u !== was));
      show(was.at, was.pair);
    },
  });

  const show = (name: number, to: number) => {
    wanted.current = true;
    if (name !== at) {
      setDrafts({});
      go?.(name);
    }
    setPair(to);
  };
  const step = (by: 1 | -1) => {
    if (asked && pair + by >= 0 && pair + by < asked.matches.length) return show(at, pair + by);
    for (let name = at + by; name >= 0 && name < names.length; name += by) {
      const count = names[name]?.matches.length ?? 0;
      if (count > 0) return show(name, by > 0 ? 0 : count - 1);
    }
  };
  const decide = (verdict: Verdict, on: number) => {
    const match = asked?.matches[on];
    if (match) put.mutate({ name: at, pair: on, match, verdict, note: (drafts[match.entry.id] ?? decided(known, match)?.note ?? '').trim() });
  };
  const last = undone.at(-1);
  const takeBack = () => last && !undo.isPending && undo.mutate(last);
  useShortcuts({
    ...Object.fromEntries(
      verdicts.map(({ verdict, key }) => [
        key,
        () => {
          decide(verdict, pair);
          step(1);
        },
      ]),
    ),
    j: () => step(1),
    k: () => step(-1),
    u: takeBack,
    'mod z': takeBack,
  });
  useEffect(() => {
    if (wanted.current) cards.current[pair]?.focus();
    wanted.current = false;
  }, [at, pair]);

  if (!asked) return null;
  return (
    <Stack gap="sm">
      <Group justify="space-between">
        <Text size="sm" c="dimmed">
          {names.length > 1 && `${t('review.place', { at: at + 1, of: names.length, name: asked.name })} · `}
          {t('review.keys')}
        </Text>
        <Group gap="xs">
          {back && (
            <Button size="xs" variant="default" onClick={back}>
              {t('review.back')}
            </Button>
          )}
          <Button size="xs" variant="default" onClick={takeBack} disabled={!last} loading={undo.isPending}>
            {t('action.undo')}
          </Button>
          <Button size="xs" variant="default" onClick={() => fetchFile('/api/v1/decisions/export', 'decisions.csv')}>
            {t('review.export')}
          </Button>
        </Group>
      </Group>
      {(put.isError || undo.isError || decisions.isError) && <Refusal error={put.error ?? undo.error ?? decisions.error} />}
      {asked.matches.map((match, i) => (
        <Pair
          key={match.entry.id}
          ref={(card) => {
            cards.current[i] = card;
          }}
          asked={asked}
          match={match}
          decision={decided(known, match)}
          open={i === pair}
          pick={() => setPair(i)}
          decide={(verdict) => decide(verdict, i)}
          note={drafts[match.entry.id] ?? decided(known, match)?.note ?? ''}
          write={(note) => setDrafts({ ...drafts, [match.entry.id]: note })}
        />
      ))}
    </Stack>
  );
}

function Pair({ ref, asked, match, decision, open, pick, decide, note, write }: { ref: (card: HTMLDivElement | null) => void; asked: Asked; match: Match; decision: Decision | undefined; open: boolean; pick: () => void; decide: (verdict: Verdict) => void; note: string; write: (note: string) => void }) {
  const { t } = useTranslation();
  const { entry } = match;
  return (
    <Card withBorder padding="md" role="group" aria-label={entry.name} tabIndex={-1} ref={ref} onFocus={pick} onClick={pick} className={open ? 'pair open' : 'pair'}>
      <Group justify="space-between" align="flex-start" mb="sm">
        <div>
          <Text fw={600}>{entry.name}</Text>
          <Text size="sm" c="dimmed">
            {t(`type.${match.match_type}` as 'type.exact')}
            {match.matched_name !== entry.name && ` · ${t('match.by', { name: match.matched_name })}`}
            {entry.countries.length > 0 && ` · ${entry.countries.map(format.country).join(', ')}`}
          </Text>
        </div>
        <Group gap="xs">
          {decision && <Mark color={verdicts.find((v) => v.verdict === decision.verdict)?.colour}>{t(`verdict.${decision.verdict}`)}</Mark>}
          <Quality match={match} />
        </Group>
      </Group>
      <Stack gap="sm">
        {open && <Beside asked={asked} match={match} />}
        {match.algorithms && <Explained match={match} />}
        <Group gap="xs" align="flex-end">
          {verdicts.map(({ verdict, key }) => (
            <Button key={verdict} size="xs" variant={decision?.verdict === verdict ? 'filled' : 'default'} aria-pressed={decision?.verdict === verdict} onClick={() => decide(verdict)} rightSection={<Kbd size="xs" aria-hidden>{key}</Kbd>}>
              {t(`verdict.${verdict}`)}
            </Button>
          ))}
          {open && (
            <form
              onSubmit={(e) => {
                e.preventDefault();
                e.currentTarget.closest<HTMLElement>('[role=group]')?.focus(); // which keeps the note, and takes the keys again
              }}
              style={{ flex: 1, minWidth: 200 }}
            >
              <TextInput
                size="xs"
                aria-label={t('review.note')}
                placeholder={t('review.note')}
                maxLength={2000}
                value={note}
                onChange={(e) => write(e.currentTarget.value)}
                onBlur={() => decision && note.trim() !== decision.note && decide(decision.verdict)}
              />
            </form>
          )}
        </Group>
      </Stack>
    </Card>
  );
}

/** What was asked beside what is listed. */
function Beside({ asked, match }: { asked: Asked; match: Match }) {
  const { t } = useTranslation();
  const entry = useQuery({ queryKey: ['entry', match.entry.id], queryFn: () => data(api.GET('/api/v1/entries/{id}', { params: { path: { id: match.entry.id } } })), staleTime: Infinity });
  const e = entry.data;
  const rows = [
    { label: t('match.name'), asked: asked.name, listed: match.entry.name },
    { label: t('match.country'), asked: asked.country, listed: match.entry.countries.map(format.country).join(', ') },
    { label: t('field.aliases'), asked: '', listed: match.entry.aliases.join('; ') },
    { label: t('review.cities'), asked: '', listed: e?.cities.join(', ') ?? '' },
    { label: t('review.externalId'), asked: '', listed: match.entry.external_id },
    { label: t('review.description'), asked: '', listed: e?.description ?? '' },
  ].filter((r) => r.asked || r.listed);
  return (
    <Table withTableBorder verticalSpacing={4} layout="fixed" className="beside" aria-label={t('review.beside')}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th w={130}>{t('review.what')}</Table.Th>
          <Table.Th>{t('explain.asked')}</Table.Th>
          <Table.Th>{t('explain.listed')}</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {rows.map((r) => (
          <Table.Tr key={r.label}>
            <Table.Th scope="row">{r.label}</Table.Th>
            <Table.Td>{r.asked || '–'}</Table.Td>
            <Table.Td>{r.listed || '–'}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
