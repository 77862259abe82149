import { Accordion, Button, Group, MultiSelect, Slider, Stack, Switch, Tabs, Text, Textarea, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useSearch } from '@tanstack/react-router';
import { useEffect, useMemo, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { Files } from '../parts/match-jobs';
import { Page } from '../parts/page';
import { Results, type Answered, type View } from '../parts/results';
import { Review } from '../parts/review';
import { algorithms } from '../parts/score';
import { useShortcuts } from '../parts/shortcuts';
import { Answer, Refusal } from '../parts/states';

type Weights = Schema<'Weights'>;

/** The workbench: one name or many against the tenant's lists. */
export function Match() {
  const { t } = useTranslation();
  const { dataset } = useSearch({ from: '/app/match' });
  const settings = useQuery({ queryKey: ['matching-settings'], queryFn: () => data(api.GET('/api/v1/matching/settings')) });
  const lists = useQuery({ queryKey: ['datasets'], queryFn: () => data(api.GET('/api/v1/datasets', { params: { query: { limit: 200 } } })) });
  return (
    <Page title={t('nav.match')} text={t('match.text')}>
      <Answer of={settings}>{(s) => <Answer of={lists}>{(page) => <Bench settings={s} lists={page.data} first={dataset} />}</Answer>}</Answer>
    </Page>
  );
}

function Bench({ settings, lists, first }: { settings: Schema<'Settings'>; lists: Schema<'Dataset'>[]; first: string | undefined }) {
  const { t } = useTranslation();
  const [sets, setSets] = useState<string[]>(first ? [first] : []);
  const [threshold, setThreshold] = useState(settings.threshold);
  const [weights, setWeights] = useState<Weights>(settings.weights);
  const view = useMemo<View>(() => ({ dataset_ids: sets, threshold, weights }), [sets, threshold, weights]);
  return (
    <Stack gap="lg">
      <Tabs defaultValue="one" keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="one">{t('match.one')}</Tabs.Tab>
          <Tabs.Tab value="many">{t('match.many')}</Tabs.Tab>
          <Tabs.Tab value="file">{t('match.file')}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="one">
          <One view={view} />
        </Tabs.Panel>
        <Tabs.Panel value="many">
          <Many view={view} />
        </Tabs.Panel>
        <Tabs.Panel value="file">
          <Files view={view} />
        </Tabs.Panel>
      </Tabs>
      <Accordion variant="contained" order={2}>
        <Accordion.Item value="settings">
          <Accordion.Control>{t('match.settings')}</Accordion.Control>
          <Accordion.Panel>
            <Stack gap="md" maw={560}>
              <MultiSelect label={t('match.lists')} placeholder={sets.length === 0 ? t('match.allLists') : undefined} data={lists.map((d) => ({ value: d.id, label: d.name }))} value={sets} onChange={setSets} clearable searchable />
              <Dial label={t('match.threshold')} value={threshold} set={setThreshold} />
              {algorithms.map((name) => (
                <Dial key={name} label={t(`algorithm.${name}`)} value={weights[name]} set={(v) => setWeights({ ...weights, [name]: v })} />
              ))}
              <Button
                variant="default"
                onClick={() => {
                  setThreshold(settings.threshold);
                  setWeights(settings.weights);
                }}
              >
                {t('match.reset')}
              </Button>
            </Stack>
          </Accordion.Panel>
        </Accordion.Item>
      </Accordion>
    </Stack>
  );
}

function Dial({ label, value, set }: { label: string; value: number; set: (v: number) => void }) {
  return (
    <div>
      <Group justify="space-between">
        <Text size="sm">{label}</Text>
        <Text size="sm" ff="monospace">
          {format.score(value)}
        </Text>
      </Group>
      <Slider value={value} onChange={set} min={0} max={1} step={0.01} label={null} thumbLabel={label} />
    </div>
  );
}

function One({ view }: { view: View }) {
  const { t } = useTranslation();
  const [name, setName] = useState('');
  const [country, setCountry] = useState('');
  const [explain, setExplain] = useState(true);
  const [asked, setAsked] = useState<{ name: string; country: string } | null>(null);
  const answer = useMutation({
    mutationFn: (q: { name: string; country: string; view: View; explain: boolean }) =>
      data(api.POST('/api/v1/matches', { body: { query: { name: q.name, country: q.country || null }, ...q.view, limit: 20, explain: q.explain } })),
  });
  const { mutate } = answer;
  // A slider's effect is seen at once: the same name is asked again.
  useEffect(() => {
    if (!asked) return;
    const soon = setTimeout(() => mutate({ ...asked, view, explain }), 150);
    return () => clearTimeout(soon);
  }, [asked, view, explain, mutate]);
  const input = useRef<HTMLInputElement>(null);
  const pairs = useRef<HTMLDivElement>(null);
  useShortcuts({ '/': () => input.current?.focus() });
  const matches = answer.data?.matches;
  const names = useMemo(() => (asked && matches?.length ? [{ ...asked, matches }] : []), [asked, matches]);
  return (
    <Stack>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          if (name.trim()) setAsked({ name: name.trim(), country: country.trim() });
        }}
      >
        <Group align="flex-end">
          <TextInput
            label={t('match.name')}
            value={name}
            onChange={(e) => setName(e.currentTarget.value)}
            onKeyDown={(e) => {
              if (e.key !== 'ArrowDown' || e.nativeEvent.isComposing) return;
              e.preventDefault();
              pairs.current?.querySelector<HTMLElement>('[role=group]')?.focus();
            }}
            ref={input}
            maxLength={500}
            required
            flex={2}
            miw={220}
            autoFocus
          />
          <TextInput label={t('match.country')} value={country} onChange={(e) => setCountry(e.currentTarget.value)} maxLength={100} flex={1} miw={120} />
          <Button type="submit" loading={answer.isPending}>
            {t('action.match')}
          </Button>
        </Group>
      </form>
      <Switch label={t('match.explain')} checked={explain} onChange={(e) => setExplain(e.currentTarget.checked)} />
      <div aria-live="polite">
        {answer.isError && <Refusal error={answer.error} />}
        {answer.data && (
          <Text size="sm" c="dimmed">
            {t('match.found', { count: answer.data.matches.length })} · {t('match.took', { ms: format.score(answer.data.took_ms) })}
            {answer.data.cached && ` · ${t('match.cached')}`}
          </Text>
        )}
      </div>
      <div ref={pairs}>{asked && names[0] && <Review key={`${asked.name} ${asked.country}`} names={names} />}</div>
    </Stack>
  );
}

function Many({ view }: { view: View }) {
  const { t } = useTranslation();
  const [text, setText] = useState('');
  const names = useMemo(() => [...new Set(text.split('\n').map((line) => line.trim()).filter(Boolean))], [text]);
  const answer = useMutation({
    mutationFn: async (asked: View) => {
      const results: Schema<'BatchItem'>[] = [];
      for (let at = 0; at < names.length; at += 100) {
        const queries = names.slice(at, at + 100).map((name) => ({ name }));
        results.push(...(await data(api.POST('/api/v1/matches/batch', { body: { queries, ...asked, limit: 5, explain: true } }))).results);
      }
      return names.map((name, i): Answered => ({ name, country: '', matches: results[i]?.matches ?? [], error: results[i]?.error }));
    },
  });
  return (
    <Stack>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          if (names.length > 0) answer.mutate(view);
        }}
      >
        <Stack align="flex-start">
          <Textarea label={t('match.paste')} value={text} onChange={(e) => setText(e.currentTarget.value)} rows={8} w="100%" />
          <Button type="submit" loading={answer.isPending} disabled={names.length === 0}>
            {t('match.matchMany', { count: names.length })}
          </Button>
        </Stack>
      </form>
      {answer.isError && <Refusal error={answer.error} />}
      {answer.data && answer.variables && <Results key={answer.submittedAt} answers={answer.data} asked={answer.variables} view={view} />}
    </Stack>
  );
}
