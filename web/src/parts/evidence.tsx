// A quote, where it stands, and the text that it was read in.
import { Anchor, Badge, Blockquote, Button, Group, Modal, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { Answer } from './states';

/** A quote, where it stands, and whether it was found there. */
export function Proof({ of: e, run }: { of: Schema<'Evidence'>; run: string }) {
  const { t } = useTranslation();
  const [opened, setOpened] = useState(false);
  return (
    <Blockquote p="sm" my="xs" color={e.verified ? 'green' : 'gray'}>
      <Text size="sm" fs={e.verified ? undefined : 'italic'}>
        “{e.quote}”
      </Text>
      <Group gap="xs" mt={4}>
        <Badge variant="default">{t(e.verified ? 'run.verified' : 'run.unverified')}</Badge>
        {e.reason && <Badge variant="default">{t(`evidence.${e.reason}`)}</Badge>}
        {e.hearsay && <Badge variant="default">{t('evidence.hearsay')}</Badge>}
        <Anchor href={e.url} target="_blank" rel="noreferrer noopener nofollow" size="sm">
          {e.title || e.url}
        </Anchor>
        {e.published_at && (
          <Text size="sm" c="dimmed">
            {e.published_at}
          </Text>
        )}
        <Text size="sm" c="dimmed">
          {t('run.credibility', { share: format.percent(e.credibility) })}
        </Text>
        {e.source_id && e.verified && (
          <Button size="compact-xs" variant="default" onClick={() => setOpened(true)}>
            {t('evidence.read')}
          </Button>
        )}
      </Group>
      {opened && <SourceText run={run} evidence={e} close={() => setOpened(false)} />}
    </Blockquote>
  );
}

/** The text as it was retrieved, with the quote marked in it. */
function SourceText({ run, evidence, close }: { run: string; evidence: Schema<'Evidence'>; close: () => void }) {
  const { t } = useTranslation();
  const source = useQuery({ queryKey: ['source', run, evidence.source_id], queryFn: () => data(api.GET('/api/v1/runs/{id}/sources/{source}', { params: { path: { id: run, source: evidence.source_id } } })), staleTime: Infinity });
  return (
    <Modal opened onClose={close} size="xl" title={evidence.title || evidence.url} closeButtonProps={{ 'aria-label': t('action.close') }}>
      <Answer of={source}>
        {(s) => {
          const at = s.text.indexOf(evidence.quote);
          return (
            <>
              <Text size="sm" c="dimmed" mb="sm">
                {[t(`source.${s.source_type}`), s.retrieved_at && t('evidence.retrieved', { date: format.time(s.retrieved_at) })].filter(Boolean).join(' · ')}
              </Text>
              <Text size="sm" style={{ whiteSpace: 'pre-wrap' }}>
                {at < 0 ? (
                  s.text
                ) : (
                  <>
                    {s.text.slice(0, at)}
                    <mark ref={(mark) => mark?.scrollIntoView({ block: 'center' })}>{evidence.quote}</mark>
                    {s.text.slice(at + evidence.quote.length)}
                  </>
                )}
              </Text>
            </>
          );
        }}
      </Answer>
    </Modal>
  );
}
