use super::*;

#[test]
fn all_presets_are_valid() {
    assert_eq!(TrainSettings::paper().validate(), Ok(()));
    assert_eq!(TrainSettings::released().validate(), Ok(()));
    assert_eq!(TrainSettings::edge().validate(), Ok(()));
    assert_eq!(TrainSettings::default(), TrainSettings::edge());
}

#[test]
fn paper_differs_from_edge_where_the_paper_does() {
    let paper = TrainSettings::paper();

    assert_eq!((paper.num_generations, paper.max_new_tokens, paper.beta), (16, 500, 0.05));
    assert_eq!((paper.max_grad_norm, paper.skip_flat), (0.0, false));
    assert_eq!((paper.truncation, paper.likelihood_weight), (Truncation::Keep, 1.0));
}

#[test]
fn all_errors_come_at_once() {
    let settings = TrainSettings {
        num_generations: 1,
        learning_rate: f64::NAN,
        beta: -1.0,
        max_grad_norm: -1.0,
        target_modules: vec![Target::Q, Target::Q],
        steps: 0,
        ..TrainSettings::edge()
    };

    let errors = settings.validate().unwrap_err();

    assert_eq!(errors.len(), 6, "{errors:#?}");
    assert!(errors.iter().any(|e| e.starts_with("num_generations is 1")), "{errors:#?}");
}

#[test]
fn temperatures_have_both_ends() {
    let errors = |temperature| {
        let settings = TrainSettings { temperature, ..TrainSettings::edge() };
        settings.validate().map_or_else(|wrong| wrong.len(), |()| 0)
    };

    assert_eq!([0.01, 1.0, 100.0].map(errors), [0; 3]);
    assert_eq!([0.0, 0.009, 101.0, -1.0, f32::NAN, f32::INFINITY].map(errors), [1; 6]);
}

#[test]
fn a_least_length_needs_room_and_a_judge() {
    let errors = |least, truncation| {
        let settings = TrainSettings {
            min_rationale_tokens: least,
            max_new_tokens: 16,
            truncation,
            ..TrainSettings::edge()
        };
        settings.validate().map_or_else(|wrong| wrong.join("; "), |()| String::new())
    };

    assert_eq!(errors(15, Truncation::NeverPays), "");
    assert_eq!(errors(0, Truncation::Keep), "");
    assert!(errors(16, Truncation::NeverPays).contains("use less than max_new_tokens, 16"));
    assert!(errors(8, Truncation::Keep).contains("never_pays"));
}

#[test]
fn a_collapse_is_a_finite_length() {
    for collapse_tokens in [-1.0, f64::NAN, f64::INFINITY] {
        let settings = TrainSettings { collapse_tokens, ..TrainSettings::edge() };

        let wrong = settings.validate().unwrap_err();

        assert!(wrong[0].contains("collapse_tokens"), "{wrong:?}");
    }
}

#[test]
fn supervised_training_needs_no_group() {
    let settings =
        TrainSettings { method: Method::Sft, num_generations: 1, ..TrainSettings::edge() };

    assert_eq!(settings.validate(), Ok(()));
}

#[test]
fn settings_survive_json_and_toml() {
    for settings in [TrainSettings::paper(), TrainSettings::edge()] {
        let json = serde_json::to_string(&settings).unwrap();
        let toml = toml::to_string(&settings).unwrap();

        assert_eq!(serde_json::from_str::<TrainSettings>(&json).unwrap(), settings);
        assert_eq!(toml::from_str::<TrainSettings>(&toml).unwrap(), settings);
    }
}

#[test]
fn a_part_is_completed_from_edge_and_a_slip_is_refused() {
    let part: TrainSettings =
        toml::from_str("num_generations = 4\ntarget_modules = ['q_proj']").unwrap();

    assert_eq!(part.num_generations, 4);
    assert_eq!(part.target_modules, [Target::Q]);
    assert_eq!(part.rank, TrainSettings::edge().rank);
    let slip = toml::from_str::<TrainSettings>("learning_rte = 1").unwrap_err().to_string();
    assert!(slip.contains("learning_rte"), "{slip}");
    let slip = toml::from_str::<TrainSettings>("target_modules = ['qq']").unwrap_err();
    assert!(slip.to_string().contains("q_proj"), "{slip}");
}

#[test]
fn rewards_go_with_what_is_done_with_them() {
    let wrong = |change: &dyn Fn(&mut TrainSettings)| {
        let mut settings = TrainSettings::edge();
        change(&mut settings);
        settings.validate().map_or_else(|wrong| wrong.join("; "), |()| String::new())
    };

    assert!(wrong(&|s| s.reward = RewardKind::LogProb).contains("use prob, mean_prob or jepo"));
    assert!(wrong(&|s| s.seam = Seam::Phrase).contains("guess_weight"));
    assert!(wrong(&|s| s.answer_marks.clear()).contains("answer_marks"));
    let warm = |s: &mut TrainSettings| {
        *s = TrainSettings { warm_start_steps: 1, ..TrainSettings::paper() };
    };
    assert!(wrong(&warm).contains("warm_start_steps is for seam policy"));
    let ordered = |s: &mut TrainSettings| {
        *s = TrainSettings { task_order: TaskOrder::Success, ..TrainSettings::paper() };
    };
    assert!(wrong(&ordered).contains("no chance of success"));
    let phrase = |s: &mut TrainSettings| {
        (s.seam, s.guess_weight, s.reward) = (Seam::Phrase, 0.0, RewardKind::MeanLogProb);
    };
    assert!(wrong(&phrase).contains("truncation is zero"));
    assert_eq!(wrong(&|s| s.reward = RewardKind::Jepo), "");
}
