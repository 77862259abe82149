// What a page shows while it has nothing: loading, refused, empty, not there.
import { Alert, Button, Center, Container, Group, Loader, Stack, Text, Title } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import type { UseQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { Problem } from '../api';
import type { Key } from '../i18n';
import { Brand, Preferences } from './chrome';

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

/** Shows a query's answer, or its loading and its refusal. */
export function Answer<T>({ of, children }: { of: UseQueryResult<T>; children: (data: T) => ReactNode }) {
  const { t } = useTranslation();
  if (of.isPending)
    return (
      <Center mih={120}>
        <Loader aria-label={t('state.loading')} />
      </Center>
    );
  if (of.isError) return <Refusal error={of.error} retry={() => void of.refetch()} />;
  return children(of.data);
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

export function NotFound() {
  const { t } = useTranslation();
  return (
    <>
      <Container component="header" size="var(--page)" py="sm">
        <Group justify="space-between">
          <Brand to="/" />
          <Preferences />
        </Group>
      </Container>
      <Center mih="60vh" component="main">
        <Empty page title={t('notFound.title')} text={t('notFound.text')}>
          <Button component={Link} to="/">
            {t('notFound.home')}
          </Button>
        </Empty>
      </Center>
    </>
  );
}
