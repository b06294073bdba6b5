//! The built-in model against tensors that PyTorch made of the same weights.

use ondine::{
    genmoji,
    image::{
        pipeline::{Event, Pictures, TextToImage},
        request::Request,
    },
    models::Source,
    runtime::{Bytes, Cancel, Device, ErrorKind, NDArray, Precision, Weights},
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn reference() -> Weights {
    let file = include_bytes!("data/genmoji_reference.safetensors");
    Weights::from_safetensors("reference", &Bytes::from(&file[..])).expect("the reference is a safetensors file")
}

/// The drawing of the reference's first or second prompt.
fn draw(index: usize, precision: Precision) -> Result<Pictures, Box<dyn std::error::Error>> {
    let prompt = ["red heart", "a sleepy bear, noto style"][index];
    let mut model = TextToImage::open(genmoji::source(), Device::cpu(None)?, None)?;
    model.set_precision(precision);
    let request = Request { steps: Some(8), guidance: Some(4.0), keep_latents: true, ..Request::new(prompt) };
    Ok(model.draw(&request, &mut |_| {})?)
}

/// The norm of the difference over the norm of what it should be.
fn relative_error(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = found.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
    (difference / wanted.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

fn tensor(dump: &[(String, NDArray)], name: &str) -> Vec<f32> {
    dump.iter().find(|(known, _)| known == name).map(|(_, array)| array.to_f32()).expect("the dump has it")
}

#[test]
fn drawings_are_those_of_pytorch() -> Outcome {
    let reference = reference();
    for index in 0..2 {
        let dump = draw(index, Precision::F32)?.dump()?;
        let wanted = |name: &str| reference.to_f32(&format!("p{index}.{name}"));
        let noise = reference.to_f32("noise")?;
        assert_eq!(tensor(&dump, "latents_0"), *noise, "the noise of a seed is torch's, bit by bit");
        let hidden = relative_error(&tensor(&dump, "prompt_embeds"), &wanted("hidden")?);
        assert!(hidden < 1e-5, "text embeddings of prompt {index}: {hidden:e}");
        let latents = wanted("latents")?;
        for (step, latents) in latents.chunks(latents.len() / 8).enumerate() {
            let error = relative_error(&tensor(&dump, &format!("latents_{}", step + 1)), latents);
            assert!(error < 1e-4, "latents of prompt {index} after step {step}: {error:e}");
        }
        let image = relative_error(&tensor(&dump, "image"), &wanted("image")?);
        assert!(image < 1e-4, "picture of prompt {index}: {image:e}");
    }
    Ok(())
}

#[test]
fn lower_precisions_draw_nearly_the_same() -> Outcome {
    let reference = reference();
    let wanted = reference.to_f32("p0.image")?;
    for (precision, least) in [(Precision::BF16, 30.0), (Precision::Int8, 20.0)] {
        let image = tensor(&draw(0, precision)?.dump()?, "image");
        let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
        let error = image.iter().zip(&*wanted).map(square).sum::<f64>() / image.len() as f64;
        let psnr = -10.0 * error.log10();
        assert!(psnr > least, "PSNR of {precision} {psnr:.1} dB");
    }
    Ok(())
}

#[test]
fn a_picture_of_a_batch_is_the_one_drawn_alone() -> Outcome {
    let model = TextToImage::open(genmoji::source(), Device::cpu(None)?, None)?;
    let request = |seed, count| Request { seed, count, steps: Some(2), ..Request::new("red heart") };
    let both = model.draw(&request(7, 2), &mut |_| {})?;
    for index in 0..2 {
        let alone = model.draw(&request(7 + index as u64, 1), &mut |_| {})?;
        assert_eq!(both.picture(index)?.rgb, alone.picture(0)?.rgb);
        assert_eq!(both.infotext(index), alone.infotext(0));
    }
    Ok(())
}

#[test]
fn latents_that_stop_being_numbers_stop_the_drawing_at_that_step() -> Outcome {
    let model = TextToImage::open(genmoji::source(), Device::cpu(None)?, None)?;
    let mut request = Request { steps: Some(3), ..Request::new("red heart") };
    let drawn = model.draw(&Request { keep_latents: true, ..request.clone() }, &mut |_| {})?;
    let dump = drawn.dump()?;
    let (_, latents) = dump.iter().find(|(name, _)| name == "latents_0").expect("the dump has it");
    let huge = vec![f32::MAX; latents.len()];
    request.noise = Some(NDArray::new(latents.shape(), &huge)?);
    let mut steps = 0;
    let error =
        model.draw(&request, &mut |event| steps += usize::from(matches!(event, Event::Step { .. }))).unwrap_err();
    assert_eq!((error.kind(), steps), (ErrorKind::Argument, 0), "{error}");
    assert!(error.to_string().starts_with("step 1 of 3: the latents are no longer numbers"), "{error}");
    Ok(())
}

#[test]
fn what_stops_a_drawing_stops_no_later_one() -> Outcome {
    let (all, one) = (Cancel::default(), Cancel::default());
    let model = TextToImage::open(genmoji::source(), Device::cpu(None)?.with_cancel(all.clone()), None)?;
    let request = Request { steps: Some(3), ..Request::new("red heart") };
    for cancel in [&all, &one] {
        let mut steps = 0;
        let error = model.prepare(&request)?.with_cancel(&one).draw(&mut |event| {
            if matches!(event, Event::Step { .. }) {
                steps += 1;
                cancel.cancel();
            }
        });
        assert_eq!((error.unwrap_err().kind(), steps), (ErrorKind::Cancelled, 1));
        assert_eq!(model.draw(&request, &mut |_| {})?.count(), 1);
    }
    assert_eq!(model.prepare(&request)?.with_cancel(&one).draw(&mut |_| {})?.count(), 1);
    all.close();
    assert_eq!(model.draw(&request, &mut |_| {}).unwrap_err().kind(), ErrorKind::Cancelled);
    Ok(())
}

#[test]
fn networks_stay_loaded_if_the_memory_holds_them() -> Outcome {
    let mut model = TextToImage::open(genmoji::source(), Device::cpu(None)?, None)?;
    let request = Request { steps: Some(2), ..Request::new("red heart") };
    let wanted = model.draw(&request, &mut |_| {})?;
    let one_by_one = model.prepare(&request)?.memory().clone();
    model.keep_loaded(true);
    let kept = model.prepare(&request)?.memory().clone();
    assert!(kept.kept && !one_by_one.kept && kept.peak_bytes() > one_by_one.peak_bytes());
    for _ in 0..2 {
        assert_eq!(model.draw(&request, &mut |_| {})?.picture(0)?.rgb, wanted.picture(0)?.rgb);
    }
    // Two sizes share the networks; a budget that does not hold all of them has each loaded in its turn again.
    let small = Request { width: Some(64), height: Some(64), ..request.clone() };
    assert_eq!(model.draw(&small, &mut |_| {})?.count(), 1);
    model.set_memory(kept.peak_bytes() - 1);
    assert!(!model.prepare(&request)?.memory().kept);
    assert_eq!(model.draw(&request, &mut |_| {})?.picture(0)?.rgb, wanted.picture(0)?.rgb);
    Ok(())
}

#[test]
fn each_step_tells_its_latents() -> Outcome {
    let model = TextToImage::open(genmoji::source(), Device::cpu(None)?, None)?;
    let request = Request { steps: Some(3), count: 2, keep_latents: true, ..Request::new("red heart") };
    let mut told = Vec::new();
    let pictures = model.draw(&request, &mut |event| {
        if let Event::Step { latents, .. } = event {
            told.push(latents.clone());
        }
    })?;
    let dump = pictures.dump()?;
    let kept = dump.iter().filter(|(name, _)| name.starts_with("latents_")).skip(1).map(|(_, array)| array);
    assert!(told.iter().eq(kept) && told[2].shape() == [2, 4, 16, 16]);
    Ok(())
}

/// The built-in model, saying nothing of the precision that suits it.
fn without_precision() -> Result<Source, Box<dyn std::error::Error>> {
    let Source::Embedded(files) = genmoji::source() else { return Err("the model is not embedded".into()) };
    let mut files = files.to_vec();
    let (_, index) = files.iter_mut().find(|(path, _)| *path == "model_index.json").ok_or("no index")?;
    let mut value: serde_json::Value = serde_json::from_slice(index)?;
    value["ondine"].as_object_mut().ok_or("no defaults")?.remove("precision");
    *index = serde_json::to_vec(&value)?.leak();
    Ok(Source::Embedded(files.leak()))
}

#[test]
fn too_little_memory_is_told_apart_and_half_precision_is_taken_if_it_fits() -> Outcome {
    let mut model = TextToImage::open(without_precision()?, Device::cpu(None)?, None)?;
    let request = Request { steps: Some(1), ..Request::new("red heart") };
    let whole = model.prepare(&request)?.memory().peak_bytes();
    model.set_memory(whole - 1);
    let drawing = model.prepare(&request)?;
    assert_eq!(drawing.precision(), Precision::BF16);
    assert!(drawing.memory().peak_bytes() < whole);
    model.set_memory(1 << 20);
    let error = model.prepare(&request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Memory);
    assert!(error.to_string().contains(", 1 MB are allowed; try fewer pixels"), "{error}");
    model.set_precision(Precision::F32);
    assert!(model.prepare(&request).unwrap_err().to_string().contains("try half precision, fewer pixels"));
    Ok(())
}
