// What a page shows while it has nothing: loading, refused, empty, not there.
import { Alert, Button, Center, Container, Group, Loader, Stack, Text, Title } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import type { UseQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { Problem } from '../api';
import type { Key } from '../i18n';
import { Brand, Preferences } from './chrome';
import { Page } from './page';

// What a workspace's policy of sign-in refuses leads to where it is met.
const doors: Record<string, { to: '/app/security' | '/sign-in'; label: Key }> = {
  mfa_enrolment_required: { to: '/app/security', label: 'nav.security' },
  sso_required: { to: '/sign-in', label: 'nav.signIn' },
};

/** The sentence of a refusal, with the id to quote to support. */
export function Refusal({ error, retry }: { error: unknown; retry?: () => void }) {
  const { t } = useTranslation();
  const problem = error instanceof Problem ? error : null;
  const door = problem && doors[problem.code];
  return (
    <Alert color="red" role="alert" title={problem?.message ?? t('error.unexpected')}>
      <Group gap="sm">
        {problem?.requestId && (
          <Text size="sm" c="dimmed">
            {t('error.requestId', { id: problem.requestId })}
          </Text>
        )}
        {door && (
          <Button size="xs" component={Link} to={door.to}>
            {t(door.label)}
          </Button>
        )}
        {retry && (
          <Button size="xs" variant="default" onClick={retry}>
            {t('action.retry')}
          </Button>
        )}
      </Group>
    </Alert>
  );
}

/** Shows a query's answer, or its loading and its refusal; under a title where the page has none before there is an answer. */
export function Answer<T>({ of, title, children }: { of: UseQueryResult<T>; title?: string; children: (data: T) => ReactNode }) {
  const { t } = useTranslation();
  if (!of.isPending && !of.isError) return children(of.data);
  const instead = of.isPending ? (
    <Center mih={120}>
      <Loader aria-label={t('state.loading')} />
    </Center>
  ) : (
    <Refusal error={of.error} retry={() => void of.refetch()} />
  );
  return title ? <Page title={title}>{instead}</Page> : instead;
}

export function Empty({ title, text, page, children }: { title: string; text: string; page?: boolean; children?: ReactNode }) {
  return (
    <Stack align="center" gap="xs" py="xl" ta="center">
      <Title order={page ? 1 : 2} size="h4">
        {title}
      </Title>
      <Text c="dimmed" maw={460}>
        {text}
      </Text>
      {children}
    </Stack>
  );
}

/** A page of its own, outside of every shell. */
function Alone({ children }: { children: ReactNode }) {
  return (
    <>
      <Container component="header" size="var(--page)" py="sm">
        <Group justify="space-between">
          <Brand to="/" />
          <Preferences />
        </Group>
      </Container>
      <Center mih="60vh" component="main" px="md">
        {children}
      </Center>
    </>
  );
}

export function NotFound() {
  const { t } = useTranslation();
  return (
    <Alone>
      <Empty page title={t('notFound.title')} text={t('notFound.text')}>
        <Button component={Link} to="/">
          {t('notFound.home')}
        </Button>
      </Empty>
    </Alone>
  );
}

/** Stands for the whole portal while the server does not say who is signed in. */
export function NoAnswer({ error, retry }: { error: unknown; retry: () => void }) {
  const { t } = useTranslation();
  return (
    <Alone>
      <Empty page title={t('noAnswer.title')} text={t('noAnswer.text')}>
        <Refusal error={error} retry={retry} />
      </Empty>
    </Alone>
  );
}
